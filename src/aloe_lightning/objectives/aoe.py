"""AOE: adversarial training on the inliers with outlier exposure on clean outliers."""

from typing import ClassVar, final

from torch import Tensor

from aloe_lightning.data import Batch
from aloe_lightning.losses import cross_entropy, uniform_cross_entropy
from aloe_lightning.objectives.objective import Objective, negative_log_likelihood


@final
class AOE(Objective):
    """min E_(x,y) max_delta [-log F(x + delta)_y] + lambda E_o [L_CE(F(o), U)]."""

    uses_outliers: ClassVar[bool] = True
    perturbs_inliers: ClassVar[bool] = True
    perturbs_outliers: ClassVar[bool] = False

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the cross-entropy on perturbed inliers and to uniform on clean outliers."""
        perturbed = (batch.inliers, negative_log_likelihood(batch.labels))
        (x,) = self.worst_case(perturbed, generator=batch.generator("attack"))
        z, z_out = self.logits(x, batch.outliers)
        loss = cross_entropy(z, batch.labels).mean() + self.outlier_weight * uniform_cross_entropy(z_out).mean()
        self.log_step(loss, batch, z, z_out)
        return loss
