"""The paper's five objectives (arXiv:2003.09711), each with its equation; F is the softmax and U the uniform vector."""

from typing import final

from torch import Tensor

from aloe_lightning.data import Batch
from aloe_lightning.losses import cross_entropy, uniform_cross_entropy
from aloe_lightning.objectives.objective import Objective, negative_log_likelihood


@final
class Original(Objective):
    """Plain training, the net under MSP, ODIN and Mahalanobis: min E_(x,y) [-log F(x)_y]."""

    uses_outliers, perturbs_inliers, perturbs_outliers = False, False, False

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the cross-entropy on clean inliers."""
        (z,) = self.logits(batch.inliers)
        loss = cross_entropy(z, batch.labels).mean()
        self.log_step(loss, batch, z)
        return loss


@final
class OE(Objective):
    """Outlier exposure (Hendrycks et al., arXiv:1812.04606): min E_(x,y) [-log F(x)_y] + lambda E_o [L_CE(F(o), U)]."""

    uses_outliers, perturbs_inliers, perturbs_outliers = True, False, False

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the cross-entropy on clean inliers and to uniform on clean outliers."""
        z, z_out = self.logits(batch.inliers, batch.outliers)
        loss = cross_entropy(z, batch.labels).mean() + self.outlier_weight * uniform_cross_entropy(z_out).mean()
        self.log_step(loss, batch, z, z_out)
        return loss


@final
class ADV(Objective):
    """Adversarial training on the inliers (Madry et al., arXiv:1706.06083): min E_(x,y) max_d [-log F(x + d)_y]."""

    uses_outliers, perturbs_inliers, perturbs_outliers = False, True, False

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the cross-entropy on perturbed inliers."""
        perturbed = (batch.inliers, negative_log_likelihood(batch.labels))
        (x,) = self.worst_case(perturbed, generator=batch.generator("attack"))
        (z,) = self.logits(x)
        loss = cross_entropy(z, batch.labels).mean()
        self.log_step(loss, batch, z)
        return loss


@final
class AOE(Objective):
    """ADV with clean outliers: min E_(x,y) max_d [-log F(x + d)_y] + lambda E_o [L_CE(F(o), U)]."""

    uses_outliers, perturbs_inliers, perturbs_outliers = True, True, False

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the cross-entropy on perturbed inliers and to uniform on clean outliers."""
        perturbed = (batch.inliers, negative_log_likelihood(batch.labels))
        (x,) = self.worst_case(perturbed, generator=batch.generator("attack"))
        z, z_out = self.logits(x, batch.outliers)
        loss = cross_entropy(z, batch.labels).mean() + self.outlier_weight * uniform_cross_entropy(z_out).mean()
        self.log_step(loss, batch, z, z_out)
        return loss


@final
class ALOE(Objective):
    """The paper's method (eq. 4): min E_(x,y) max_d [-log F(x + d)_y] + lambda E_o max_d [L_CE(F(o + d), U)]."""

    uses_outliers, perturbs_inliers, perturbs_outliers = True, True, True

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
