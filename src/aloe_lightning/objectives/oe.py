"""OE: outlier exposure (Hendrycks, Mazeika and Dietterich, arXiv:1812.04606)."""

from typing import ClassVar, final

from torch import Tensor

from aloe_lightning.data import Batch
from aloe_lightning.losses import cross_entropy, uniform_cross_entropy
from aloe_lightning.objectives.objective import Objective


@final
class OE(Objective):
    """min E_(x,y) [-log F(x)_y] + lambda E_o [L_CE(F(o), U)]."""

    uses_outliers: ClassVar[bool] = True
    perturbs_inliers: ClassVar[bool] = False
    perturbs_outliers: ClassVar[bool] = False

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the cross-entropy on clean inliers and to uniform on clean outliers."""
        z, z_out = self.logits(batch.inliers, batch.outliers)
        loss = cross_entropy(z, batch.labels).mean() + self.outlier_weight * uniform_cross_entropy(z_out).mean()
        self.log_step(loss, batch, z, z_out)
        return loss
