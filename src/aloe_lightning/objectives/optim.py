"""SGD with Nesterov momentum and a learning rate that moves every step."""

import math
from dataclasses import dataclass

from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR


@dataclass(frozen=True, kw_only=True)
class Optim:
    """The paper's optimiser, and its schedule with an optional warm-up.

    Attributes:
        lr: the highest learning rate.
        min_lr: the last one.
        warmup: share of all steps in which the rate rises linearly from `lr` / 25 to `lr`, in [0, 1); the paper has
            none. With a warm-up the schedule is the usual one-cycle.
        momentum: of SGD.
        nesterov: Nesterov's momentum.
        weight_decay: L2 coefficient, on every parameter as in the paper's code.
    """

    lr: float = 0.1
    min_lr: float = 1e-6
    warmup: float = 0.0
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 1e-4

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of a step: linear warm-up, then half a cosine from `lr` down to `min_lr` at the last step."""
        rising = self.warmup * steps
        if step < rising:
            return self.lr * (1 / 25 + (1 - 1 / 25) * step / rising)
        falling = min(1.0, (step - rising) / max(steps - rising, 1))
        return self.min_lr + (self.lr - self.min_lr) * (1 + math.cos(math.pi * falling)) / 2

    def build(self, net: nn.Module, steps: int) -> tuple[SGD, LambdaLR]:
        """The optimiser of a net and its per-step schedule over `steps` steps."""
        sgd = SGD(
            net.parameters(),
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov and self.momentum > 0,
            weight_decay=self.weight_decay,
        )
        return sgd, LambdaLR(sgd, lambda step: self.rate(step, steps) / self.lr)
