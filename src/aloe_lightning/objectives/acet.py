"""ACET: adversarial confidence enhanced training (Hein, Andriushchenko and Bitterwolf, arXiv:1812.05720)."""

from typing import ClassVar, final

from torch import Tensor, nn

from aloe_lightning.attacks import Attack, BatchNormMode
from aloe_lightning.data import Batch
from aloe_lightning.losses import cross_entropy, max_log_confidence
from aloe_lightning.objectives.objective import Objective
from aloe_lightning.objectives.optim import Optim
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import NonNegativeFloat


@final
@checked
class ACET(Objective):
    """min E_(x,y) [-log F(x)_y] + lambda E_o max_delta [max_k log F(o + delta)_k].

    The equation is the paper's, with lambda = 1. There o is noise (images with permuted pixels, and uniform noise, both
    smoothed), in a ball of 0.3 by 40 steps; here the auxiliary outliers, as in later work that compares with ACET
    (train_acet.py in the code of arXiv:2006.15207), in the ball of `attack`. The inner maximisation raises the
    greatest log-probability.
    """

    uses_outliers: ClassVar[bool] = True
    perturbs_inliers: ClassVar[bool] = False
    perturbs_outliers: ClassVar[bool] = True
    outlier_loss = staticmethod(max_log_confidence)

    def __init__(
        self,
        net: nn.Module,
        *,
        optim: Optim | None = None,
        attack: Attack | None = None,
        inner_batchnorm: BatchNormMode = "eval",
        outlier_weight: NonNegativeFloat = 1.0,
        joint_forward: bool = True,
        channels_last: bool = True,
    ) -> None:
        super().__init__(
            net,
            optim=optim,
            attack=attack,
            inner_batchnorm=inner_batchnorm,
            outlier_weight=outlier_weight,
            joint_forward=joint_forward,
            channels_last=channels_last,
        )

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the cross-entropy on clean inliers and the greatest log-probability of perturbed outliers."""
        (outliers,) = self.worst_case((batch.outliers, max_log_confidence), generator=batch.generator("attack"))
        z, z_out = self.logits(batch.inliers, outliers)
        loss = cross_entropy(z, batch.labels).mean() + self.outlier_weight * max_log_confidence(z_out).mean()
        self.log_step(loss, batch, z, z_out)
        return loss
