"""Algorithm 1 of the paper: the attack on detectors that read the softmax."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from aloe_lightning.attacks.linf import Rounding, pgd_linf
from aloe_lightning.attacks.modes import attackable
from aloe_lightning.losses import entropy, uniform_cross_entropy

Membership = Literal["id", "ood"]


@dataclass(frozen=True, kw_only=True)
class ConfidenceAttack:
    """Algorithm 1: pushes in-distribution images to a uniform softmax and OOD images to a confident one.

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

    def __call__(self, net: nn.Module, images: Tensor, membership: Membership, start: Tensor | None = None) -> Tensor:
        """Attack images of one membership.

        Args:
            net: images -> logits; attacked in eval mode and left as it was.
            images: (N, 3, H, W) in [0, 1].
            membership: `id` minimises the cross-entropy to uniform, `ood` minimises the entropy.
            start: noise in [-1, 1] of the images' shape that replaces the random draw.

        Returns:
            Perturbed images of the same shape.
        """
        loss = uniform_cross_entropy if membership == "id" else entropy
        with attackable(net):
            return pgd_linf(
                images,
                lambda x: -loss(net(x)),
                eps=self.epsilon / 255,
                step_size=self.step_size / 255,
                steps=self.steps,
                random_start=start if self.random_start and start is not None else self.random_start,
                rounding=self.rounding,
            )
