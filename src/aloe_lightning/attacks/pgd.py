"""The interface of an attack, and projected gradient ascent (PGD; Madry et al., arXiv:1706.06083)."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from aloe_lightning.attacks.linf import LossFn, Rounding, pgd_linf
from aloe_lightning.errors import UserError
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import Epsilon, NonNegativeInt, PositiveFloat


class Attack(Protocol):
    """A maximiser of a per-sample loss in an Linf ball around each image."""

    @property
    def epsilon(self) -> float:
        """Radius of the ball, in 1/255 pixel steps."""
        ...

    def describe(self) -> str:
        """Return the attack and its settings except epsilon, in one line for records and captions."""
        ...

    def __call__(
        self, images: Tensor, loss: LossFn, *, start: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Perturb images so that they (nearly) maximise a loss.

        Args:
            images: (N, 3, H, W) in [0, 1].
            loss: images -> (N,); the caller freezes the net behind it with `frozen_eval`.
            start: noise in [-1, 1] of the images' shape, in units of epsilon, in place of a random draw.
            generator: source of all other randomness.

        Returns:
            Perturbed images of the same shape, detached.
        """
        ...


@checked
@dataclass(frozen=True, kw_only=True)
class PGD:
    """Projected gradient ascent on the sign of the gradient, in training and in evaluation; returns the last iterate.

    Attributes:
        epsilon: radius of the Linf ball, in 1/255 pixel steps.
        step_size: length of an ascent step, in 1/255 pixel steps.
        steps: number of steps; null for the paper's number in training, floor(epsilon) + 1.
        random_start: start at a uniform point of the ball.
        rounding: none; nearest keeps perturbations on the 1/255 grid; truncate rounds as the paper's code does. Both
            require whole numbers for epsilon and step_size.
    """

    epsilon: Epsilon = 1
    step_size: PositiveFloat = 1
    steps: NonNegativeInt | None = None
    random_start: bool = True
    rounding: Rounding = "none"

    def __post_init__(self) -> None:
        if self.rounding != "none" and not (float(self.epsilon).is_integer() and float(self.step_size).is_integer()):
            raise UserError(
                f"PGD: rounding={self.rounding} requires epsilon and step_size to be whole numbers of 1/255 steps "
                f"(got {self.epsilon:g} and {self.step_size:g})"
            )

    @property
    def num_steps(self) -> int:
        """Number of steps, also where `steps` is None."""
        return math.floor(self.epsilon) + 1 if self.steps is None else self.steps

    def describe(self) -> str:
        """Return the settings except epsilon, such as `PGD, 10 steps of 1/255, random start, rounding none`."""
        start = "random start" if self.random_start else "no random start"
        return f"PGD, {self.num_steps} steps of {self.step_size:g}/255, {start}, rounding {self.rounding}"

    def __call__(
        self, images: Tensor, loss: LossFn, *, start: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Perturb images (N, 3, H, W) in [0, 1] so that they (nearly) maximise a loss; see `Attack`."""
        return pgd_linf(
            images,
            loss,
            eps=self.epsilon / 255,
            step_size=self.step_size / 255,
            steps=self.num_steps,
            random_start=start if self.random_start and start is not None else self.random_start,
            rounding=self.rounding,
            generator=generator,
        )
