"""The result of an attack that keeps the best iterate of each image, and projected ascent that does so."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aloe_lightning.attacks.ball import Ball
from aloe_lightning.attacks.linf import LossFn


@dataclass(frozen=True)
class Ascent:
    """The best iterate of each image.

    Attributes:
        images: the iterates (N, C, H, W), detached.
        loss: their losses (N,).
        start_loss: losses (N,) of the starting points.
        zero_gradient: bool (N,), whether the gradient at the starting point was exactly zero in every pixel (or not
            finite); false for an attack without gradients.
    """

    images: Tensor
    loss: Tensor
    start_loss: Tensor
    zero_gradient: Tensor


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
    annealed: bool = False,
) -> Ascent:
    """Maximise a per-sample loss by projected gradient ascent, equal steps for all images; return the best iterate.

    With gradient g_k of the loss at x_k, projection P on the ball and steepest direction s (the sign for Linf):

        m_k = decay * m_(k-1) + g_k / mean(|g_k|),    m_(-1) = 0
        x_(k+1) = P(x_k + a_k * s(m_k)),    a_k = step_size, or step_size * (1 + cos(pi * k / steps)) / 2 if annealed

    Args:
        images: clean images (N, C, H, W) in [0, 1].
        loss_fn: images -> (N,), maximised; samples must not influence one another.
        ball: the ball around the clean images.
        step_size: norm of a step, in [0, 1] pixels.
        steps: number of steps, 0 or more; each is a forward and a backward pass, and one forward pass comes last.
        start: points of the ball to start at, of the images' shape; None for the clean images.
        decay: share of the earlier direction in each step: with 0, PGD; with 1, the step follows the sum of all
            gradients (MI-FGSM; Dong et al., arXiv:1710.06081).
        annealed: let the step size fall to 0 as half a cosine.

    Raises:
        ValueError: if `steps` is negative, or the loss is not one value per image or has no gradient.
    """
    if steps < 0:
        raise ValueError(f"steps must not be negative; got {steps}")
    clean = images.detach()
    x = clean if start is None else ball.project(start, clean)
    losses: list[Tensor] = []
    direction = torch.zeros_like(clean)
    best, best_loss = x, loss_of(x, loss_fn) if steps == 0 else None
    zero = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    for step in range(steps):
        loss, gradient = loss_and_gradient(x, loss_fn)
        losses.append(loss)
        if step == 0:
            zero = is_zero(gradient)
        best, best_loss = better([(best, best_loss), (x, loss)])
        size = gradient.flatten(1).abs().mean(1).clamp(min=torch.finfo(gradient.dtype).tiny)
        direction = decay * direction + gradient / size.view(-1, *(1,) * (gradient.dim() - 1))
        share = (1 + math.cos(math.pi * step / steps)) / 2 if annealed else 1.0
        x = ball.project(x + share * step_size * ball.steepest(direction), clean)
    best, best_loss = better([(best, best_loss), (x, loss_of(x, loss_fn))])
    return Ascent(best, best_loss, losses[0] if losses else best_loss, zero)


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
