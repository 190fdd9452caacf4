"""Original: plain training, the net under MSP, ODIN and Mahalanobis."""

from typing import ClassVar, final

from torch import Tensor

from aloe_lightning.data import Batch
from aloe_lightning.losses import cross_entropy
from aloe_lightning.objectives.objective import Objective


@final
class Original(Objective):
    """min E_(x,y) [-log F(x)_y]."""

    uses_outliers: ClassVar[bool] = False
    perturbs_inliers: ClassVar[bool] = False
    perturbs_outliers: ClassVar[bool] = False

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the cross-entropy on clean inliers."""
        (z,) = self.logits(batch.inliers)
        loss = cross_entropy(z, batch.labels).mean()
        self.log_step(loss, batch, z)
        return loss
