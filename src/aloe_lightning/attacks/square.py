"""Random search by squares, without gradients (Square Attack; Andriushchenko et al., arXiv:1912.00049)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from aloe_lightning.attacks.ascent import Ascent, loss_of, where
from aloe_lightning.attacks.ball import TINY, Ball
from aloe_lightning.attacks.linf import LossFn

HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
"""Shares of the queries after which the area of the square is halved: the paper's schedule for 10,000 queries."""


def square_side(query: int, queries: int, height: int, width: int, area: float) -> int:
    """Return the side of the square of a query, in pixels, at least 1 and at most the image's.

    Args:
        query: number of the query, from 0.
        queries: number of queries in all.
        height: height of the images.
        width: width of the images.
        area: area of the first squares as a share of the image.
    """
    share = area / 2 ** sum(query >= mark * queries for mark in HALVINGS)
    return max(1, min(round(math.sqrt(share * height * width)), height, width))


def square(
    images: Tensor,
    loss_fn: LossFn,
    *,
    ball: Ball,
    queries: int,
    generators: Sequence[torch.Generator],
    start: Tensor | None = None,
    area: float = 0.3,
) -> Ascent:
    """Maximise a per-sample loss within a ball by random search and return the best point.

    Each query changes a square of each image at random and keeps the change if the loss rises. Linf: each channel of
    the square moves to +eps or -eps. L2: the square takes the perturbation of another square and all that is left of
    the radius, as a bump with one sign for each channel.

    Args:
        images: clean images (N, C, H, W) in [0, 1].
        loss_fn: images -> (N,), maximised, needs no gradient; samples must not influence one another.
        ball: the ball around the clean images.
        queries: number of forward passes after the first.
        generators: source of the randomness of each image, N of them: no image depends on its batch.
        start: points of the ball to start at; None for vertical stripes of one sign for each column and channel.
        area: area of the first squares as a share of the image.

    Raises:
        ValueError: if there is not one generator for each image, or the loss is not one value per image.
    """
    if len(generators) != len(images):
        raise ValueError(f"square requires one generator per image: {len(generators)} for {len(images)} images")
    clean = images.detach()
    channels, height, width = clean.shape[1:]
    # Per query: two positions in [0, 1), the row and the column of two squares, then a sign for each channel.
    draws = torch.stack([torch.rand(queries, 4 + channels, generator=g, device=g.device).cpu() for g in generators])
    draws = draws.to(clean.device)
    x = clean if start is None else ball.project(start.detach(), clean)
    loss = start_loss = loss_of(x, loss_fn)
    if start is None:
        stripes = [torch.rand(channels, 1, width, generator=g, device=g.device).cpu() for g in generators]
        striped = ball.start(clean, (torch.stack(stripes).to(clean) * 2 - 1).sign().expand_as(clean))
        striped_loss = loss_of(striped, loss_fn)
        x, loss = where(striped_loss > loss, striped, x), torch.maximum(striped_loss, loss)
    for query in range(queries):
        side = square_side(query, queries, height, width, area)
        draw = draws[:, query]
        window = _window(draw[:, 0], draw[:, 1], side, height, width)
        signs = torch.where(draw[:, 4:] < 0.5, -1.0, 1.0).to(clean).view(-1, channels, 1, 1)
        if ball.norm == "linf":
            candidate = ball.project(torch.where(window, clean + ball.eps * signs, x), clean)
        else:
            other = _window(draw[:, 2], draw[:, 3], side, height, width)
            candidate = ball.project(clean + _moved_mass(x - clean, window, other, signs, ball.eps), clean)
        candidate_loss = loss_of(candidate, loss_fn)
        x, loss = where(candidate_loss > loss, candidate, x), torch.maximum(candidate_loss, loss)
    return Ascent(x, loss, start_loss, torch.zeros(len(x), dtype=torch.bool, device=x.device))


def _window(row: Tensor, column: Tensor, side: int, height: int, width: int) -> Tensor:
    """Return the masks (N, 1, H, W) of squares whose corners are at shares (N,) in [0, 1) of the possible positions."""
    top, left = (row * (height - side + 1)).long(), (column * (width - side + 1)).long()
    rows, columns = torch.arange(height, device=row.device), torch.arange(width, device=row.device)
    vertical = (rows >= top.unsqueeze(1)) & (rows < top.unsqueeze(1) + side)
    horizontal = (columns >= left.unsqueeze(1)) & (columns < left.unsqueeze(1) + side)
    return (vertical.unsqueeze(2) & horizontal.unsqueeze(1)).unsqueeze(1)


def _moved_mass(delta: Tensor, window: Tensor, other: Tensor, signs: Tensor, eps: float) -> Tensor:
    """Return perturbations whose squares take the norm of other squares and all that is left of the radius."""
    both = delta * (window | other)
    left_over = (eps**2 - delta.flatten(1).square().sum(1)).clamp(min=0)
    mass = (both.flatten(1).square().sum(1) + left_over).sqrt().view(-1, 1, 1, 1)
    inside = delta * window
    size = inside.flatten(2).norm(dim=2).view(*signs.shape)
    bump = window * signs * _hill(window)
    bump = bump / bump.flatten(2).norm(dim=2).view(*signs.shape).clamp(min=TINY)
    direction = bump + inside / size.clamp(min=TINY)
    direction = direction / direction.flatten(1).norm(dim=1).view(-1, 1, 1, 1).clamp(min=TINY)
    return torch.where(window, direction * mass, torch.where(other, torch.zeros_like(delta), delta))


def _hill(window: Tensor) -> Tensor:
    """Return weights (N, 1, H, W) that are highest at the middle of each square and fall towards its edges."""
    weights = window.float()
    rows, columns = weights.amax(3, keepdim=True), weights.amax(2, keepdim=True)
    forward = rows.cumsum(2).minimum(rows.flip(2).cumsum(2).flip(2)) * rows
    sideways = columns.cumsum(3).minimum(columns.flip(3).cumsum(3).flip(3)) * columns
    return forward.minimum(sideways)
