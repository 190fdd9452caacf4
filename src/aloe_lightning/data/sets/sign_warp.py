"""Augmentation of traffic signs that preserves their class: random rotation, translation and perspective of each image.

The distribution is that of the authors' generate_gtsrb_data.py: rotation, then translation, then projection.
docs/decisions/007-gtsrb.md states the differences; besides, they jitter the points 0 and 32 in coordinates of pixel
centres, we the corners of the picture; and they mirror pixels beyond a perspective's horizon (about six in 1 of 34,000
pictures), where we repeat the edge.

Coordinates are (x, y) = (column, row) of pixel centres, so that a picture of side S extends from -0.5 to S - 0.5.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_ANGLE = math.radians(15)
MAX_SHIFT = 2.5  # pixels
# As a share of the side: 7.68 pixels of 32. Below 1/4 the jittered corners always form a convex quadrilateral: the
# cross product of two neighbouring sides is affine in each coordinate alone, hence smallest where all are extreme, and
# there (a corner moved inward, its neighbours in the opposite direction) it is at least side * (side - 4 * jitter).
MAX_JITTER = 0.3 * 0.8
SAMPLED_AT_ONCE = 64  # images: the fastest of 16 to 4096, because it fits into the cache; no effect on the result


@dataclass(frozen=True)
class SignDraws:
    """Random parameters for each of N images, applied in this order; float64.

    Attributes:
        angles: (N,) radians about the centre, from the x axis towards the y axis.
        shifts: (N, 2) pixels along x and y.
        jitter: (N, 4, 2) pixels by which the corners top left, top right, bottom right, bottom left move along x and y.
    """

    angles: Tensor
    shifts: Tensor
    jitter: Tensor


def draw_signs(count: int, size: int, generator: torch.Generator, device: torch.device | str = "cpu") -> SignDraws:
    """Draw parameters for `count` images of side `size`; the generator is on `device`."""
    uniform = torch.rand(count, 12, generator=generator, device=device, dtype=torch.float64)
    symmetric = 2 * uniform - 1
    spread = MAX_JITTER * size * uniform[:, 3]
    return SignDraws(
        angles=MAX_ANGLE * symmetric[:, 0],
        shifts=MAX_SHIFT * symmetric[:, 1:3],
        jitter=spread.view(-1, 1, 1) * symmetric[:, 4:].view(-1, 4, 2),
    )


def homographies(draws: SignDraws, size: int) -> Tensor:
    """Return the maps from positions in the new picture to positions in the old one.

    Returns:
        float64 (N, 3, 3) on homogeneous pixel coordinates, with denominator 1 at the picture's centre.
    """
    centre = (size - 1) / 2
    square = draws.jitter.new_tensor([[0, 0], [1, 0], [1, 1], [0, 1]])
    # The adjugate is the inverse times the determinant, which is positive: the corners keep their orientation.
    # Hence the denominator is positive in the quadrilateral, to which the picture's centre belongs.
    to_square = _adjugate(_from_unit_square(size * square - 0.5 + draws.jitter))
    cos, sin = draws.angles.cos(), draws.angles.sin()
    x, y = (-size / 2 - draws.shifts).unbind(1)
    # Unit square -> pixels about the centre -> shifted back -> rotated back -> pixels.
    to_pixels = _matrix(
        [[size * cos, size * sin, cos * x + sin * y + centre], [-size * sin, size * cos, cos * y - sin * x + centre]]
    )
    maps = to_pixels @ to_square
    return maps / (centre * (maps[:, 2:, :1] + maps[:, 2:, 1:2]) + maps[:, 2:, 2:])


def sample(images: Tensor, maps: Tensor, chunk: int = SAMPLED_AT_ONCE) -> Tensor:
    """Sample every new pixel at its position in the old picture: bilinear, the edge repeated outside, rounded.

    Args:
        images: uint8 (N, C, S, S).
        maps: float64 (N, 3, 3), new pixel coordinates to old ones.
        chunk: images at a time.

    Returns:
        uint8 (N, C, S, S).
    """
    return torch.cat(list(map(_sample_at_once, torch.split(images, chunk), torch.split(maps, chunk))))


def warp_signs(images: Tensor, generator: torch.Generator) -> Tensor:
    """Warp each image, uint8 (N, 3, S, S), by separate random parameters; the generator is on the images' device."""
    size = images.shape[-1]
    return sample(images, homographies(draw_signs(len(images), size, generator, images.device), size))


def _sample_at_once(images: Tensor, maps: Tensor) -> Tensor:
    size = images.shape[-1]
    pixels = torch.arange(size, device=images.device, dtype=torch.float64)
    # float64 until the end: near the horizon the quotient is steep. (N, 3, S, S), without a matmul: its rounding may
    # depend on the batch size.
    x, y, denominator = (
        (maps[:, :, :1] * pixels)[:, :, None] + (maps[:, :, 1:2] * pixels + maps[:, :, 2:])[..., None]
    ).unbind(1)
    # A strong perspective has its horizon in the picture, outside the quadrilateral. Towards it positions go to
    # infinity, that is to the edge; a denominator kept positive leaves them there beyond the horizon.
    positions = torch.stack([x, y], -1) / denominator.clamp(min=1e-6).unsqueeze(-1)
    grid = ((2 * positions + 1) / size - 1).float()
    sampled = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled.round_().to(torch.uint8)


def _from_unit_square(corners: Tensor) -> Tensor:
    """Return the maps (N, 3, 3) of (0, 0), (1, 0), (1, 1), (0, 1) to corners (N, 4, 2), by Heckbert (1989)."""
    first, second, third, fourth = corners.unbind(1)
    right, down, excess = second - third, fourth - third, first - second + third - fourth
    area = _cross(right, down)
    g, h = _cross(excess, down) / area, _cross(right, excess) / area
    (a, d), (b, e) = (second - first + g[:, None] * second).T, (fourth - first + h[:, None] * fourth).T
    c, f = first.T
    return _matrix([[a, b, c], [d, e, f]], [g, h])


def _matrix(rows: list[list[Tensor]], last: list[Tensor] | None = None) -> Tensor:
    """Return (N, 3, 3) from two rows of three (N,), and the last row without its final 1: (0, 0, 1) unless given."""
    ones = torch.ones_like(rows[0][0])
    bottom = [*(last or [0 * ones, 0 * ones]), ones]
    return torch.stack([torch.stack(row, -1) for row in [*rows, bottom]], -2)


def _adjugate(matrices: Tensor) -> Tensor:
    """Return the adjugates of (N, 3, 3): their columns are the cross products of the rows."""
    columns: Tensor = torch.linalg.cross(matrices[:, [1, 2, 0]], matrices[:, [2, 0, 1]])
    return columns.mT


def _cross(first: Tensor, second: Tensor) -> Tensor:
    return first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
