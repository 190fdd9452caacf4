"""ALOE: adversarial learning with inlier and outlier exposure, the paper's method (arXiv:2003.09711, eq. 4)."""

from typing import final

from torch import Tensor

from aloe_lightning.data import Batch
from aloe_lightning.losses import cross_entropy, uniform_cross_entropy
from aloe_lightning.objectives.objective import Objective, negative_log_likelihood


@final
class ALOE(Objective):
    """min E_(x,y) max_delta [-log F(x + delta)_y] + lambda E_o max_delta [L_CE(F(o + delta), U)]."""

    uses_outliers, perturbs_inliers, perturbs_outliers = True, True, True

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Cross-entropy on perturbed inliers, cross-entropy to uniform on perturbed outliers."""
        x, outliers = self.worst_case(
            (batch.inliers, negative_log_likelihood(batch.labels)),
            (batch.outliers, uniform_cross_entropy),
            generator=batch.generator("attack"),
        )
        z, z_out = self.logits(x, outliers)
        loss = cross_entropy(z, batch.labels).mean() + self.outlier_weight * uniform_cross_entropy(z_out).mean()
        return self.logged(loss, batch, z, z_out)
