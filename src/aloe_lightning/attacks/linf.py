"""Projected gradient ascent in an Linf ball, as a pure function of a loss."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

Rounding = Literal["none", "nearest", "truncate"]
LossFn = Callable[[Tensor], Tensor]
"""A loss of each image: (N, C, H, W) -> (N,)."""


def uniform_start(shape: torch.Size | tuple[int, ...], generator: torch.Generator | None, like: Tensor) -> Tensor:
    """Draw noise of `shape`, uniform in [-1, 1), on the generator's device and move it to the device of `like`."""
    device = generator.device if generator is not None else like.device
    return (torch.rand(shape, generator=generator, device=device) * 2 - 1).to(like.device)


def gradient_sign(images: Tensor, loss_fn: LossFn) -> Tensor:
    """Return the sign of the gradient of a per-sample loss with respect to its images, in any grad mode.

    Args:
        images: (N, C, H, W).
        loss_fn: images -> (N,).

    Returns:
        (N, C, H, W) with entries -1, 0 and 1.

    Raises:
        ValueError: if the loss is not one value per image.
    """
    return gradient_signs(images, lambda x: [loss_fn(x)])[0]


def gradient_signs(images: Tensor, losses_fn: Callable[[Tensor], Sequence[Tensor]]) -> list[Tensor]:
    """Return the `gradient_sign` of several losses that share one forward pass, images -> a list of (N,)."""
    with torch.inference_mode(False), torch.enable_grad():
        x = images.detach().clone().requires_grad_(True)
        losses = losses_fn(x)
        for loss in losses:
            if loss.shape != (len(x),):
                raise ValueError(f"loss_fn must return one value per image, ({len(x)},); got {tuple(loss.shape)}")
        last = len(losses) - 1
        return [torch.autograd.grad(loss.sum(), x, retain_graph=i < last)[0].sign() for i, loss in enumerate(losses)]


def pgd_linf(
    images: Tensor,
    loss_fn: LossFn,
    *,
    eps: float,
    step_size: float,
    steps: int,
    random_start: bool | Tensor = True,
    rounding: Rounding = "none",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Maximise a per-sample loss within an Linf ball (Madry et al., arXiv:1706.06083) and return the last iterate.

    Every iterate lies in the ball and in [0, 1]. Freeze the net around the call with `frozen_eval`.

    Args:
        images: (N, C, H, W) in [0, 1].
        loss_fn: images -> (N,), maximised; samples must not influence one another.
        eps: radius of the ball, in [0, 1] pixels (1/255 is one step of an 8-bit image).
        step_size: size of an ascent step, in the same unit.
        steps: number of steps, 0 or more.
        random_start: begin at a uniform point of the ball (clipped to [0, 1]), or at a given one: a tensor of the
            images' shape in [-1, 1], in units of eps.
        rounding: `none`; `nearest` keeps perturbations on the 1/255 grid; `truncate` does as the paper's code, which
            truncates them to whole numbers of 1/255: its random start is zero at eps 1/255 and it stalls near 3/255 for
            any eps of 4/255 or more (docs/decisions/001). Both require eps and step_size to be whole 1/255 steps.
        generator: source of the random start.

    Returns:
        Perturbed images, detached, of the same shape.

    Raises:
        ValueError: if eps, step size or number of steps is negative, if perturbations are rounded and eps or step size
            is a fraction of a 1/255 step, or if the loss is not one value per image.
    """
    if eps < 0 or step_size < 0 or steps < 0:
        raise ValueError(f"eps, step_size and steps must not be negative; got {eps}, {step_size}, {steps}")
    if rounding != "none" and not all(math.isclose(v * 255, round(v * 255), abs_tol=1e-4) for v in (eps, step_size)):
        raise ValueError(f"rounding={rounding} requires eps and step_size in whole 1/255 steps; got {eps}, {step_size}")
    clean = images.detach()
    if isinstance(random_start, Tensor):
        start = random_start.to(clean)
    elif random_start:
        start = uniform_start(clean.shape, generator, clean)
    else:
        start = torch.zeros_like(clean)
    if rounding == "none":
        return _ascend_in_pixels(clean, loss_fn, start * eps, eps, step_size, steps)
    return _ascend_on_grid(clean, loss_fn, start, round(eps * 255), round(step_size * 255), steps, rounding)


def _ascend_in_pixels(x: Tensor, loss_fn: LossFn, delta: Tensor, eps: float, step_size: float, steps: int) -> Tensor:
    low, high = (x - eps).clamp_(min=0), (x + eps).clamp_(max=1)
    adversarial = (x + delta).clamp(min=low, max=high)
    for _ in range(steps):
        adversarial = (adversarial + step_size * gradient_sign(adversarial, loss_fn)).clamp(min=low, max=high)
    return adversarial


def _ascend_on_grid(
    x: Tensor, loss_fn: LossFn, start: Tensor, eps: int, step_size: int, steps: int, rounding: Rounding
) -> Tensor:
    """Ascend in the arithmetic of the paper's code: delta counts 1/255 steps and is rounded after each step."""
    quantise = torch.trunc if rounding == "truncate" else torch.round

    def valid(delta: Tensor) -> Tensor:
        return ((x + delta.clamp(-eps, eps) / 255).clamp(0, 1) - x) * 255

    delta = valid(quantise(start * eps))
    for _ in range(steps):
        delta = valid(quantise(delta + step_size * gradient_sign(x + delta / 255, loss_fn)))
    return (x + delta / 255).clamp(0, 1)
