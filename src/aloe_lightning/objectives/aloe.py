"""ALOE: adversarial learning with inlier and outlier exposure, the paper's method (arXiv:2003.09711, eq. 4)."""

from typing import ClassVar, final

from torch import Tensor

from aloe_lightning.data import Batch
from aloe_lightning.losses import cross_entropy, uniform_cross_entropy
from aloe_lightning.objectives.objective import Objective, negative_log_likelihood


@final
class ALOE(Objective):
    """min E_(x,y) max_delta [-log F(x + delta)_y] + lambda E_o max_delta [L_CE(F(o + delta), U)]."""

    uses_outliers: ClassVar[bool] = True
    perturbs_inliers: ClassVar[bool] = True
    perturbs_outliers: ClassVar[bool] = True

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the cross-entropy on perturbed inliers and to uniform on perturbed outliers."""
        x, outliers = self.worst_case(
            (batch.inliers, negative_log_likelihood(batch.labels)),
            (batch.outliers, uniform_cross_entropy),
            generator=batch.generator("attack"),
        )
        z, z_out = self.logits(x, outliers)
        loss = cross_entropy(z, batch.labels).mean() + self.outlier_weight * uniform_cross_entropy(z_out).mean()
        self.log_step(loss, batch, z, z_out)
        return loss
