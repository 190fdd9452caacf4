"""ADV: adversarial training on the inliers (Madry et al., arXiv:1706.06083)."""

from typing import final

from torch import Tensor

from aloe_lightning.data import Batch
from aloe_lightning.losses import cross_entropy
from aloe_lightning.objectives.objective import Objective, negative_log_likelihood


@final
class ADV(Objective):
    """min E_(x,y) max_delta [-log F(x + delta)_y]."""

    uses_outliers, perturbs_inliers, perturbs_outliers = False, True, False

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Cross-entropy on perturbed inliers."""
        attacked = (batch.inliers, negative_log_likelihood(batch.labels))
        (x,) = self.worst_case(attacked, generator=batch.generator("attack"))
        (z,) = self.logits(x)
        return self.logged(cross_entropy(z, batch.labels).mean(), batch, z)
