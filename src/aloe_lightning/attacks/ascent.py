"""The result of an attack that keeps the best iterate of each image, and projected ascent that does so."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aloe_lightning.attacks.ball import Ball
from aloe_lightning.attacks.linf import LossFn

Schedule = Callable[[float], float]
"""Time in [0, 1) -> part of the step size."""
Estimate = Callable[[Tensor, Tensor], Tensor]
"""Losses (N,) and gradients (N, C, H, W) of iterates -> values (N,)."""


def constant(time: float) -> float:
    """Return 1: all steps have the same size."""
    return 1.0


def half_cosine(time: float) -> float:
    """Return (1 + cos(pi t)) / 2, from 1 to 0."""
    return (1 + math.cos(math.pi * time)) / 2


def late_fall(time: float) -> float:
    """Return 1 - t^1.5, from 1 to 0; for few steps, of which a half cosine makes the last ones too small."""
    return 1.0 - time * math.sqrt(time)


@dataclass(frozen=True)
class Ascent:
    """The best iterate of each image.

    Attributes:
        images: the iterates (N, C, H, W), detached.
        loss: their losses (N,).
        start_loss: losses (N,) of the starting points.
        zero_gradient: bool (N,), whether the gradient at the starting point was exactly zero in every pixel (or not
            finite); false for an attack without gradients.
        at_peak: bool (N,), whether to first order hardly any step in the ball raises the loss at the starting point, as
            at a corner that the gradient leads to; None if it was not tried.
    """

    images: Tensor
    loss: Tensor
    start_loss: Tensor
    zero_gradient: Tensor
    at_peak: Tensor | None = None


def loss_of(images: Tensor, loss_fn: LossFn) -> Tensor:
    """Return the losses (N,) without a gradient; a loss that is not a number counts as the lowest."""
    with torch.no_grad():
        return (
            _checked(loss_fn(images), images).detach().nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
        )


def loss_and_gradient(images: Tensor, loss_fn: LossFn) -> tuple[Tensor, Tensor]:
    """Return the losses (N,) and their gradient in the images, in any grad mode; values that are no numbers are zero.

    Raises:
        ValueError: if the loss is not one value per image, or has no gradient in the images.
    """
    with torch.inference_mode(False), torch.enable_grad():
        x = images.detach().clone().requires_grad_(True)
        loss = _checked(loss_fn(x), images)
        if not loss.requires_grad:
            raise ValueError("the loss has no gradient in the images: only a gradient-free attack can maximise it")
        (gradient,) = torch.autograd.grad(loss.sum(), x)
    loss = loss.detach().nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    return loss, gradient.nan_to_num(nan=0, posinf=0, neginf=0)


def where(mask: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Return the images of `first` where the mask (N,) is true, and those of `second` elsewhere."""
    return torch.where(mask.view(-1, *(1,) * (first.dim() - 1)), first, second)


def best_pgd(
    images: Tensor,
    loss_fn: LossFn,
    *,
    ball: Ball,
    step_size: float,
    steps: int,
    start: Tensor | None = None,
    decay: float = 0.0,
    schedule: Schedule = constant,
    estimate: Estimate | None = None,
) -> Ascent:
    """Maximise a per-sample loss by projected gradient ascent, equal steps for all images; return the best iterate.

    With gradient g_k of the loss at x_k, projection P on the ball and steepest direction s (the sign for Linf):

        m_k = decay * m_(k-1) + g_k / mean(|g_k|),    m_(-1) = 0
        x_(k+1) = P(x_k + step_size * schedule(k / steps) * s(m_k))

    Args:
        images: clean images (N, C, H, W) in [0, 1].
        loss_fn: images -> (N,), maximised; samples must not influence one another.
        ball: the ball around the clean images.
        step_size: norm of a step, in [0, 1] pixels.
        steps: number of steps, 0 or more; each is a forward and a backward pass, and one forward pass comes last (with
            an estimate, a backward pass, too).
        start: points of the ball to start at, of the images' shape; None for the clean images.
        decay: share of the earlier direction in each step: with 0, PGD; with 1, the step follows the sum of all
            gradients (MI-FGSM; Dong et al., arXiv:1710.06081).
        schedule: part of the step size that is left at a time in [0, 1): `constant`, `half_cosine` or `late_fall`.
        estimate: gives the values by which the best iterate is chosen, and which are then the result's losses; None
            for the losses.

    Raises:
        ValueError: if `steps` is negative, or the loss is not one value per image or has no gradient.
    """
    if steps < 0:
        raise ValueError(f"steps must not be negative; got {steps}")
    clean = images.detach()
    x = clean if start is None else ball.project(start, clean)
    values: list[Tensor] = []
    direction = torch.zeros_like(clean)
    best, best_value = x, None
    peak = zero = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for step in range(steps):
        loss, gradient = loss_and_gradient(x, loss_fn)
        values.append(loss if estimate is None else estimate(loss, gradient))
        if step == 0:
            zero = is_zero(gradient)
            peak = is_peak(x, gradient, clean, ball) & ~zero
        best, best_value = better([(best, best_value), (x, values[-1])])
        size = gradient.flatten(1).abs().mean(1).clamp(min=torch.finfo(gradient.dtype).tiny)
        direction = decay * direction + gradient / size.view(-1, *(1,) * (gradient.dim() - 1))
        x = ball.project(x + schedule(step / steps) * step_size * ball.steepest(direction), clean)
    last = loss_of(x, loss_fn) if estimate is None else estimate(*loss_and_gradient(x, loss_fn))
    best, best_value = better([(best, best_value), (x, last)])
    return Ascent(best, best_value, values[0] if values else best_value, zero, peak)


def is_peak(images: Tensor, gradient: Tensor, clean: Tensor, ball: Ball) -> Tensor:
    """Return whether the ball leaves at most a twentieth of the rise that a step of eps would bring, bool (N,).

    It is true where the gradient is zero.
    """
    direction = ball.steepest(gradient)
    free = ball.eps * (gradient * direction).flatten(1).sum(1)
    left = (gradient * (ball.project(images + ball.eps * direction, clean) - images)).flatten(1).sum(1)
    return left <= 0.05 * free


def is_zero(gradient: Tensor) -> Tensor:
    """Return whether the gradient of each image is zero in every pixel, bool (N,)."""
    return gradient.flatten(1).abs().amax(1) == 0


def better(candidates: Sequence[tuple[Tensor, Tensor | None]]) -> tuple[Tensor, Tensor]:
    """Return for each image the candidate of the highest loss; of equals, the first.

    Args:
        candidates: pairs of images (N, C, H, W) and losses (N,); a pair without losses is left out.
    """
    (images, best), *others = [(candidate, loss) for candidate, loss in candidates if loss is not None]
    for candidate, loss in others:
        images, best = where(loss > best, candidate, images), torch.maximum(loss, best)
    return images, best


def _checked(loss: Tensor, images: Tensor) -> Tensor:
    if loss.shape != (len(images),):
        raise ValueError(f"loss_fn must return one value per image, ({len(images)},); got {tuple(loss.shape)}")
    return loss
