"""A training objective in one file: outlier exposure by the squared distance to the uniform distribution.

PYTHONPATH=examples/extend python -m aloe_lightning \
        objective._target_=squared_exposure.SquaredExposure objective.name=squared
"""

from typing import ClassVar, final

from torch import Tensor

from aloe_lightning.data import Batch
from aloe_lightning.losses import cross_entropy
from aloe_lightning.objectives import Objective


@final
class SquaredExposure(Objective):
    """min E_(x,y) [-log F(x)_y] + lambda E_o [||F(o) - U||^2]."""

    uses_outliers: ClassVar[bool] = True
    perturbs_inliers: ClassVar[bool] = False
    perturbs_outliers: ClassVar[bool] = False

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return cross-entropy on inliers plus the squared distance of outliers to the uniform distribution."""
        z, z_out = self.logits(batch.inliers, batch.outliers)
        distance = (z_out.float().softmax(dim=1) - 1 / z_out.shape[1]).square().sum(dim=1)
        loss = cross_entropy(z, batch.labels).mean() + self.outlier_weight * distance.mean()
        self.log_step(loss, batch, z, z_out)
        return loss
