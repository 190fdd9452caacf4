"""Classes from outside the package, as a user's own module would hold them."""

from torch import Tensor, nn

from aloe_lightning.data import Batch
from aloe_lightning.losses import cross_entropy
from aloe_lightning.objectives import Objective
from aloe_lightning.signatures.types import PositiveInt


class ALOE(Objective):
    """An objective under the name of a known one."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Cross-entropy on clean inliers."""
        (z,) = self.logits(batch.inliers)
        return cross_entropy(z, batch.labels).mean()


class Plain(ALOE):
    """An objective that sees no outliers and perturbs nothing."""

    uses_outliers = False
    perturbs_inliers = False
    perturbs_outliers = False


class Net(nn.Module):
    """A net with a parameter of its own."""

    def __init__(self, num_classes: int, layers: PositiveInt) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(num_classes, num_classes) for _ in range(layers)))


class Neighbours:
    """The signature of a detector."""

    def __init__(self, k: PositiveInt = 3) -> None:
        self.k = k
