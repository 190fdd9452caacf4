"""HALO: helper-based adversarial OOD detection (Lyons Keenan, Erfani and Leckie, arXiv:2502.19755)."""

from copy import deepcopy
from pathlib import Path
from typing import Annotated, ClassVar, final

import torch
from torch import Tensor, nn

from aloe_lightning.attacks import PGD, Attack, BatchNormMode, frozen_eval
from aloe_lightning.data import Batch
from aloe_lightning.errors import UserError
from aloe_lightning.losses import cross_entropy, kl_divergence, uniform_cross_entropy
from aloe_lightning.objectives.objective import LogitsLoss, Objective
from aloe_lightning.objectives.optim import Optim
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import ONE_NET, NonNegativeFloat, Text
from aloe_lightning.storage.weights import load_weights
from aloe_lightning.storage.zoo import checkpoint_file


def divergence_from(clean: Tensor) -> LogitsLoss:
    """Return the divergence of logits (N, K) from those of the clean images."""
    return lambda logits: kl_divergence(logits, clean)


@final
@checked
class HALO(Objective):
    """TRADES for inliers and outliers, and a helper loss on inliers at twice the perturbation.

    min E_(x,y) [-log F(x)_y + beta KL(F(x) || F(x + d)) + gamma L_CE(F(x + 2 d), y_h)]
    + lambda E_o [L_CE(F(o), U) + beta KL(F(o) || F(o + d_o))],

    where d and d_o maximise their divergences and y_h is the class that a net of standard training, the helper, gives
    to x + d. It is `multi_loss` of the authors' code with their weights. In two things it differs from that code: the
    helper is in eval mode, and the inner maximisation is `attack` on a frozen net. With helper_weight=0 it is their
    TRADES_OE. The three passes (clean, perturbed, at twice the perturbation) are separate, as there.

    Args:
        outlier_weight: lambda, the authors' eta.
        consistency_weight: beta.
        helper_weight: gamma.
        helper: weights of the helper, a net of the same architecture trained by objective=original, as a file or
            `zoo:NAME`; required for training unless helper_weight is 0.

    Raises:
        UserError: if the attack starts at the clean image, where the divergence has no gradient; at the beginning of a
            training, if the helper is missing.
    """

    uses_outliers: ClassVar[bool] = True
    perturbs_inliers: ClassVar[bool] = True
    perturbs_outliers: ClassVar[bool] = True

    def __init__(
        self,
        net: nn.Module,
        *,
        optim: Optim | None = None,
        attack: Attack | None = None,
        inner_batchnorm: BatchNormMode = "eval",
        outlier_weight: NonNegativeFloat = 2.0,
        consistency_weight: NonNegativeFloat = 3.0,
        helper_weight: NonNegativeFloat = 0.5,
        helper: Annotated[Text | None, ONE_NET] = None,
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
        if isinstance(self.attack, PGD) and not (self.attack.random_start and self.attack.rounding == "none"):
            raise UserError(
                "HALO: at the clean image the divergence has no gradient, so that its attack requires "
                "random_start=true and rounding=none"
            )
        self.consistency_weight, self.helper_weight, self.helper = consistency_weight, helper_weight, helper
        self._helper: list[nn.Module] = []  # a list: no part of the trained net or of its saved state

    def on_fit_start(self) -> None:
        """Load the helper."""
        super().on_fit_start()
        if self.helper_weight == 0:
            return
        if self.helper is None or not checkpoint_file(self.helper).is_file():
            problem = "is not given" if self.helper is None else f"is no file: {Path(self.helper).absolute()}"
            raise UserError(
                f"objective.helper {problem}: give weights of the same net trained by objective=original, "
                "or objective.helper_weight=0 for TRADES with outliers"
            )
        net = deepcopy(self.net)
        load_weights(self.helper, net)
        self._helper = [net.eval().requires_grad_(False)]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return cross-entropies on clean images, divergences of perturbed ones, and the helper loss."""
        with frozen_eval(self.net, self.inner_batchnorm), torch.no_grad():
            clean, clean_out = self.logits(batch.inliers, batch.outliers)
        x, outliers = self.worst_case(
            (batch.inliers, divergence_from(clean)),
            (batch.outliers, divergence_from(clean_out)),
            generator=batch.generator("attack"),
        )
        z, z_out = self.logits(batch.inliers, batch.outliers)
        z_adv, z_out_adv = self.logits(x, outliers)
        loss = cross_entropy(z, batch.labels).mean() + self.consistency_weight * kl_divergence(z_adv, z).mean()
        divergence = kl_divergence(z_out_adv, z_out).mean()
        loss = loss + self.outlier_weight * (uniform_cross_entropy(z_out).mean() + self.consistency_weight * divergence)
        if self.helper_weight > 0:
            with torch.no_grad():
                helper_labels = self._helper[0](x).argmax(1)
            # Not clipped to [0, 1], and outliers are in the pass, as in the authors' code.
            z_far, _ = self.logits(2 * x - batch.inliers, 2 * outliers - batch.outliers)
            loss = loss + self.helper_weight * cross_entropy(z_far, helper_labels).mean()
        self.log_step(loss, batch, z_adv, z_out_adv)
        return loss
