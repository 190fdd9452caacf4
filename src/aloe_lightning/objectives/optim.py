"""SGD with Nesterov momentum and a learning-rate schedule per step."""

import math
from dataclasses import dataclass

from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import Fraction, NonNegativeFloat, PositiveFloat


@checked
@dataclass(frozen=True, kw_only=True)
class Optim:
    """The paper's optimiser, and its schedule with an optional warm-up.

    Attributes:
        lr: highest learning rate.
        min_lr: last learning rate.
        warmup: share of all steps in which the rate rises linearly from lr / 25 to lr; the paper has none. With a
            warm-up the schedule is a one-cycle schedule.
        momentum: momentum of SGD.
        nesterov: use Nesterov's form of momentum.
        weight_decay: L2 coefficient, on every parameter as in the paper's code.
    """

    lr: PositiveFloat = 0.1
    min_lr: NonNegativeFloat = 1e-6
    warmup: Fraction = 0.0
    momentum: Fraction = 0.9
    nesterov: bool = True
    weight_decay: NonNegativeFloat = 1e-4

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step: linear warm-up, then half a cosine from `lr` to `min_lr` at the last."""
        rising = self.warmup * steps
        if step < rising:
            return self.lr * (1 / 25 + (1 - 1 / 25) * step / rising)
        falling = min(1.0, (step - rising) / max(steps - rising, 1))
        return self.min_lr + (self.lr - self.min_lr) * (1 + math.cos(math.pi * falling)) / 2

    def build(self, net: nn.Module, steps: int) -> tuple[SGD, LambdaLR]:
        """Return the optimiser of a net and its schedule over `steps` steps."""
        sgd = SGD(
            net.parameters(),
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov and self.momentum > 0,
            weight_decay=self.weight_decay,
        )
        return sgd, LambdaLR(sgd, lambda step: self.rate(step, steps) / self.lr)
