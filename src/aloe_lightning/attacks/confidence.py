"""The attacks on detectors: Algorithm 1 of the paper, on those that read the softmax, or any other loss."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from aloe_lightning.attacks.freeze import frozen_eval
from aloe_lightning.attacks.linf import Rounding, pgd_linf
from aloe_lightning.losses import entropy, uniform_cross_entropy

Membership = Literal["id", "ood"]
AttackLoss = Callable[[Tensor, Membership], Tensor]
"""Images (N, 3, H, W) and what they are -> (N,), maximised by the attack."""


def confidence_loss(net: nn.Module) -> AttackLoss:
    """Algorithm 1's: in-distribution images lose their cross-entropy to uniform, OOD images their entropy."""

    def loss(images: Tensor, membership: Membership) -> Tensor:
        return -(uniform_cross_entropy if membership == "id" else entropy)(net(images))

    return loss


@dataclass(frozen=True, kw_only=True)
class ConfidenceAttack:
    """Projected gradient ascent that makes in-distribution images look OOD and OOD images look in-distribution.

    Attributes:
        epsilon: radius of the Linf ball, in 1/255 pixel steps.
        step_size: xi, in 1/255 pixel steps.
        steps: m.
        random_start: start at a uniform point of the ball.
        rounding: see `pgd_linf`.
        name: the regime that records state.
    """

    epsilon: float = 1
    step_size: float = 1
    steps: int = 10
    random_start: bool = True
    rounding: Rounding = "none"
    name: str = "paper"

    def __call__(
        self,
        net: nn.Module,
        images: Tensor,
        membership: Membership,
        start: Tensor | None = None,
        loss: AttackLoss | None = None,
    ) -> Tensor:
        """Attack images of one membership.

        Args:
            net: attacked in eval mode and left as it was.
            images: (N, 3, H, W) in [0, 1].
            membership: what the images are.
            start: noise in [-1, 1] of the images' shape that replaces the random draw.
            loss: what is maximised; Algorithm 1's by default, on logits of the net.

        Returns:
            Perturbed images of the same shape.
        """
        maximised = confidence_loss(net) if loss is None else loss
        with frozen_eval(net):
            return pgd_linf(
                images,
                lambda x: maximised(x, membership),
                eps=self.epsilon / 255,
                step_size=self.step_size / 255,
                steps=self.steps,
                random_start=start if self.random_start and start is not None else self.random_start,
                rounding=self.rounding,
            )
