"""ADV: adversarial training on the inliers (Madry et al., arXiv:1706.06083)."""

from typing import ClassVar, final

from torch import Tensor

from aloe_lightning.data import Batch
from aloe_lightning.losses import cross_entropy
from aloe_lightning.objectives.objective import Objective, negative_log_likelihood


@final
class ADV(Objective):
    """min E_(x,y) max_delta [-log F(x + delta)_y]."""

    uses_outliers: ClassVar[bool] = False
    perturbs_inliers: ClassVar[bool] = True
    perturbs_outliers: ClassVar[bool] = False

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the cross-entropy on perturbed inliers."""
        perturbed = (batch.inliers, negative_log_likelihood(batch.labels))
        (x,) = self.worst_case(perturbed, generator=batch.generator("attack"))
        (z,) = self.logits(x)
        loss = cross_entropy(z, batch.labels).mean()
        self.log_step(loss, batch, z)
        return loss
