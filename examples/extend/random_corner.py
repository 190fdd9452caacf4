"""An attack in one file: the best of several random corners of the ball, without any gradient.

PYTHONPATH=examples/extend python -m aloe_lightning objective=oe '~attack.eval' \
        '+attack.eval={_target_: random_corner.RandomCorner, epsilon: ${eval_epsilon}, tries: 5}'
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from aloe_lightning.attacks import LossFn
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import Epsilon, PositiveInt


@checked
@dataclass(frozen=True, kw_only=True)
class RandomCorner:
    """Tries random corners of the Linf ball and keeps the one of greatest loss for each image.

    Attributes:
        epsilon: radius of the ball in 1/255 pixel steps.
        tries: number of corners; the image itself is the first candidate.
    """

    epsilon: Epsilon = 1
    tries: PositiveInt = 10

    def describe(self) -> str:
        """Return the attack in words, for records and captions."""
        return f"best of {self.tries} random corners"

    def __call__(
        self, images: Tensor, loss: LossFn, *, start: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return perturbed images (N, 3, H, W) in [0, 1]; `loss`: images -> (N,) is maximised."""
        with torch.no_grad():
            best, highest = images, loss(images)
            for attempt in range(self.tries):
                noise = torch.rand(images.shape, generator=generator) if start is None else start.roll(attempt, 3)
                corner = (images + self.epsilon / 255 * (noise.to(images) - 0.5 * (start is None)).sign()).clamp(0, 1)
                values = loss(corner)
                best = torch.where((values > highest).view(-1, 1, 1, 1), corner, best)
                highest = values.maximum(highest)
        return best
