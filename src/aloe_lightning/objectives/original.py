"""Original: plain training, the net under MSP, ODIN and Mahalanobis."""

from typing import final

from torch import Tensor

from aloe_lightning.data import Batch
from aloe_lightning.losses import cross_entropy
from aloe_lightning.objectives.objective import Objective


@final
class Original(Objective):
    """min E_(x,y) [-log F(x)_y]."""

    uses_outliers, perturbs_inliers, perturbs_outliers = False, False, False

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Cross-entropy on clean inliers."""
        (z,) = self.logits(batch.inliers)
        return self.logged(cross_entropy(z, batch.labels).mean(), batch, z)
