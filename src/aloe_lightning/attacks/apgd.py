"""Auto-PGD: gradient ascent with momentum that halves its step where progress stops (arXiv:2003.01690)."""

import math

import torch
from torch import Tensor

from aloe_lightning.attacks.ascent import Ascent, is_zero, loss_and_gradient, loss_of, where
from aloe_lightning.attacks.ball import Ball
from aloe_lightning.attacks.linf import LossFn


def checkpoints(steps: int) -> list[int]:
    """Return the steps w_0 = 0 < w_1 < ... <= steps at which APGD may halve its step size (section 3.1).

    w_j = ceil(p_j * steps), where p_1 = 0.22 and p_j+1 = p_j + max(p_j - p_j-1 - 0.03, 0.06).
    """
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return sorted({math.ceil(round(share * steps, 9)) for share in shares if share <= 1})


def apgd(
    images: Tensor,
    loss_fn: LossFn,
    *,
    ball: Ball,
    steps: int,
    start: Tensor | None = None,
    momentum: float = 0.75,
    rho: float = 0.75,
    first_step: float = 2.0,
) -> Ascent:
    """Maximise a per-sample loss within a ball (Croce and Hein, algorithm 1) and return the best iterate.

    With gradient g_k of the loss at x_k, projection P on the ball and steepest direction s (the sign for Linf):

        z_(k+1) = P(x_k + eta_k * s(g_k))
        x_(k+1) = P(x_k + momentum * (z_(k+1) - x_k) + (1 - momentum) * (x_k - x_(k-1))),    x_1 = z_1

    Each image has its own step size eta: at each checkpoint it is halved, and the image returns to its best iterate, if
    the loss rose in less than a share rho of the steps since the last checkpoint, or if neither step size nor best
    loss have changed since then.

    Args:
        images: clean images (N, C, H, W) in [0, 1].
        loss_fn: images -> (N,), maximised; samples must not influence one another.
        ball: the ball around the clean images.
        steps: number of steps, at least 1; each is a forward and a backward pass, and one forward pass comes last.
        start: points of the ball to start at, of the images' shape; None for the clean images.
        momentum: weight alpha of the new step against the last change.
        rho: share of steps that must raise the loss.
        first_step: step size of the first steps in units of the radius.

    Raises:
        ValueError: if `steps` is not positive, or the loss is not one value per image.
    """
    if steps < 1:
        raise ValueError(f"apgd requires at least one step; got {steps}")
    clean = images.detach()
    x = clean if start is None else ball.project(start.detach(), clean)
    loss, gradient = loss_and_gradient(x, loss_fn)
    start_loss, zero_gradient = loss, is_zero(gradient)
    best, best_loss, best_gradient = x, loss, gradient
    previous = x
    size = torch.full_like(loss, first_step * ball.eps)
    rises = torch.zeros_like(loss)
    halved_last, loss_then = torch.zeros_like(zero_gradient), best_loss
    marks = checkpoints(steps)
    for step in range(1, steps + 1):
        scale = size.to(x.dtype).view(-1, *(1,) * (x.dim() - 1))
        moved = ball.project(x + scale * ball.steepest(gradient), clean)
        if step > 1:
            moved = ball.project(x + momentum * (moved - x) + (1 - momentum) * (x - previous), clean)
        previous, x, last_loss = x, moved, loss
        if step == steps:
            loss = loss_of(x, loss_fn)
            return Ascent(where(loss > best_loss, x, best), torch.maximum(loss, best_loss), start_loss, zero_gradient)
        loss, gradient = loss_and_gradient(x, loss_fn)
        rises += loss > last_loss
        improved = loss > best_loss
        best, best_gradient = where(improved, x, best), where(improved, gradient, best_gradient)
        best_loss = torch.maximum(loss, best_loss)
        if step in marks:
            interval = step - marks[marks.index(step) - 1]
            halve = (rises < rho * interval) | (~halved_last & (best_loss == loss_then))
            size = torch.where(halve, size / 2, size)
            x, gradient, loss = (
                where(halve, best, x),
                where(halve, best_gradient, gradient),
                torch.where(halve, best_loss, loss),
            )
            halved_last, loss_then = halve, best_loss
            rises = torch.zeros_like(rises)
    raise AssertionError("the last step returns")
