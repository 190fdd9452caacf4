"""The inner maximisation of a min-max objective: settings, and PGD on a loss of logits."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aloe_lightning.attacks import BatchNormMode, Rounding, frozen_eval, pgd_linf

LogitsLoss = Callable[[Tensor], Tensor]
"""Logits (N, K) -> (N,)."""


@dataclass(frozen=True, kw_only=True)
class InnerMaximisation:
    """PGD as the paper trains with it.

    Attributes:
        epsilon: radius of the Linf ball, in 1/255 pixel steps.
        step_size: in 1/255 pixel steps.
        steps: number of steps; None for the paper's floor(epsilon) + 1.
        random_start: start at a uniform point of the ball.
        rounding: see `aloe_lightning.attacks.pgd_linf`.
        batchnorm: what BatchNorm normalises by while the perturbation is sought: the running statistics (`eval`) or
            the batch's own (`train`, as the paper's code). Neither moves the running statistics.
    """

    epsilon: float = 1
    step_size: float = 1
    steps: int | None = None
    random_start: bool = True
    rounding: Rounding = "none"
    batchnorm: BatchNormMode = "eval"

    def __call__(
        self, net: nn.Module, images: Tensor, loss: LogitsLoss, generator: torch.Generator | None = None
    ) -> Tensor:
        """Images (N, 3, H, W) in [0, 1] -> the images of their balls that (nearly) maximise a loss of the logits."""
        with frozen_eval(net, self.batchnorm):
            return pgd_linf(
                images,
                lambda x: loss(net(x)),
                eps=self.epsilon / 255,
                step_size=self.step_size / 255,
                steps=math.floor(self.epsilon) + 1 if self.steps is None else self.steps,
                random_start=self.random_start,
                rounding=self.rounding,
                generator=generator,
            )
