"""The paper's objectives (arXiv:2003.09711): one equation, of which each has some terms."""

from typing import final

from torch import Tensor

from aloe_lightning.data import Batch
from aloe_lightning.losses import cross_entropy, uniform_cross_entropy
from aloe_lightning.objectives.objective import Objective, negative_log_likelihood


class _PaperObjective(Objective):
    """min E_(x,y) max_d [-log F(x + d)_y] + lambda E_o max_e [L_CE(F(o + e), U)], F: softmax, U: uniform.

    Without `perturbs_inliers` d is 0, without `perturbs_outliers` e is 0, without `uses_outliers` lambda is 0. None of
    the five perturbs outliers alone.
    """

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the value of the equation on one batch."""
        x, outliers = batch.inliers, batch.outliers
        inlier_loss = negative_log_likelihood(batch.labels)
        if self.perturbs_inliers and self.perturbs_outliers:
            parts = (x, inlier_loss), (outliers, uniform_cross_entropy)
            x, outliers = self.worst_case(*parts, generator=batch.generator("attack"))
        elif self.perturbs_inliers:
            (x,) = self.worst_case((x, inlier_loss), generator=batch.generator("attack"))
        z, *z_outliers = self.logits(x, outliers) if self.uses_outliers else self.logits(x)
        loss = cross_entropy(z, batch.labels).mean()
        for z_out in z_outliers:
            loss = loss + self.outlier_weight * uniform_cross_entropy(z_out).mean()
        self.log_step(loss, batch, z, *z_outliers)
        return loss


@final
class Original(_PaperObjective):
    """Plain training, the net under MSP, ODIN and Mahalanobis: min E_(x,y) [-log F(x)_y]."""

    uses_outliers, perturbs_inliers, perturbs_outliers = False, False, False


@final
class OE(_PaperObjective):
    """Outlier exposure (Hendrycks et al., arXiv:1812.04606): min E_(x,y) [-log F(x)_y] + lambda E_o [L_CE(F(o), U)]."""

    uses_outliers, perturbs_inliers, perturbs_outliers = True, False, False


@final
class ADV(_PaperObjective):
    """Adversarial training on the inliers (Madry et al., arXiv:1706.06083): min E_(x,y) max_d [-log F(x + d)_y]."""

    uses_outliers, perturbs_inliers, perturbs_outliers = False, True, False


@final
class AOE(_PaperObjective):
    """ADV with clean outliers: min E_(x,y) max_d [-log F(x + d)_y] + lambda E_o [L_CE(F(o), U)]."""

    uses_outliers, perturbs_inliers, perturbs_outliers = True, True, False


@final
class ALOE(_PaperObjective):
    """The paper's method (eq. 4): min E_(x,y) max_d [-log F(x + d)_y] + lambda E_o max_e [L_CE(F(o + e), U)]."""

    uses_outliers, perturbs_inliers, perturbs_outliers = True, True, True
