"""Seeded procedural pictures for the embedded demo: ten kinds of signs, dead leaves, and OOD kinds unlike either.

Every picture is uint8 (3, 32, 32). A sign is an antialiased shape of random position, size, tilt and colour, slightly
lighter than its smooth, faintly noisy background. The training outliers are dead leaves: flat shapes that occlude one
another. The OOD test sets are waves, clouds, print and a photograph. Their difficulty depends on contrast, noise, size
and position alone, not on any net or attack.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import matplotlib
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from aloe_lightning.errors import UserError

Floats = NDArray[Any]
Pictures = NDArray[np.uint8]
OODKind = Literal["stripes", "ripples", "clouds", "print", "photograph"]
OOD_KINDS: tuple[OODKind, ...] = get_args(OODKind)
Outline = Callable[[Floats, Floats], Floats]
"""Distance to a shape's outline at x (right) and y (down), in units of its size: negative inside."""

SIDE = 32
CONTRAST = (0.1, 0.18)  # RMS over the channels between a sign and its background, of the range [0, 1]
NOISE = (0.004, 0.016)  # standard deviation of the pixel noise on every picture
LEAVES = 21  # per picture of dead leaves: enough to cover the background nearly everywhere
DRAWN_AT_ONCE = 64  # pictures of dead leaves: their planes fit into the processor's cache


def _box(x: Floats, y: Floats, half_width: float, half_height: float) -> Floats:
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def _star(x: Floats, y: Floats) -> Floats:
    fold = np.abs(np.arctan2(x, -y) % (0.4 * np.pi) - 0.2 * np.pi)  # angle from the notch between two tips
    return np.asarray(np.hypot(x, y) * np.cos(fold - 0.9) - 0.42)


_SIGNS: dict[str, Outline] = {
    "disc": lambda x, y: np.hypot(x, y) - 0.85,
    "ring": lambda x, y: np.abs(np.hypot(x, y) - 0.72) - 0.2,
    "square": lambda x, y: _box(x, y, 0.75, 0.75),
    "frame": lambda x, y: np.abs(_box(x, y, 0.65, 0.65)) - 0.18,
    "triangle": lambda x, y: np.maximum(np.abs(x) * 0.866 - y * 0.5, y) - 0.5,
    "star": _star,
    "cross": lambda x, y: np.minimum(_box(x, y, 0.95, 0.27), _box(x, y, 0.27, 0.95)),
    "crescent": lambda x, y: np.maximum(np.hypot(x, y) - 0.9, 0.75 - np.hypot(x - 0.45, y)),
    "bar": lambda x, y: _box(x, y, 1.0, 0.28),
    "chevron": lambda x, y: np.maximum(np.abs(y + 0.9 * np.abs(x) - 0.4) * 0.74 - 0.26, np.abs(x) - 0.85),
}
_LEAVES = tuple(_SIGNS[name] for name in ("disc", "square", "triangle"))
CLASS_NAMES: tuple[str, ...] = tuple(_SIGNS)
NUM_CLASSES = 10

# The digits 0 to 9 in a 5 x 3 typeface: five rows each, a row an octal digit whose bits are its pixels.
_DIGITS = ("75557", "26227", "71747", "71717", "55711", "74717", "74757", "71111", "75757", "75717")
_PHOTOGRAPH = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"


def in_distribution(count: int, seed: int) -> tuple[Pictures, NDArray[np.int64]]:
    """Draw signs on smooth backgrounds by a seed, shuffled, with equally many of each class (to within one).

    Returns:
        Pictures (count, 3, 32, 32) and class indices (count,) into `CLASS_NAMES`.
    """
    rng = np.random.default_rng([seed, 0])
    labels = rng.permutation(np.arange(count, dtype=np.int64) % NUM_CLASSES)
    pictures = np.empty((count, 3, SIDE, SIDE), np.uint8)
    for label, outline in enumerate(_SIGNS.values()):
        (where,) = np.nonzero(labels == label)
        pictures[where] = _signs(outline, len(where), rng)
    return pictures, labels


def outliers(count: int, seed: int) -> Pictures:
    """Draw training outliers (count, 3, 32, 32) by a seed: dead leaves, coarse to fine and pale to colourful."""
    rng = np.random.default_rng([seed, 1])
    pictures = np.empty((count, 3, SIDE, SIDE), np.uint8)
    for start in range(0, count, DRAWN_AT_ONCE):
        pictures[start : start + DRAWN_AT_ONCE] = _dead_leaves(min(DRAWN_AT_ONCE, count - start), rng)
    return pictures


def ood(kind: OODKind, count: int, seed: int) -> Pictures:
    """Draw test pictures (count, 3, 32, 32) of a kind by a seed; they are neither signs nor dead leaves.

    Raises:
        UserError: if the photograph is requested and this matplotlib does not have it.
    """
    return _OOD[kind](count, np.random.default_rng([seed, 2 + OOD_KINDS.index(kind)]))


def _uniform(rng: Generator, low: float, high: float, *shape: int) -> Floats:
    return rng.uniform(low, high, shape).astype(np.float32)


def _place(
    rng: Generator, count: int, sizes: tuple[float, float], shift: float, tilt: float
) -> tuple[Floats, Floats, Floats]:
    """Draw coordinates x, y (N, 32, 32) of shapes near the centre, in units of their sizes, and the sizes (N, 1, 1).

    Sizes are in pixels and log-uniform; `shift` pixels and `tilt` radians are the largest in either direction.
    """
    axis = np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2
    size = np.exp(_uniform(rng, float(np.log(sizes[0])), float(np.log(sizes[1])), count, 1, 1))
    x = (axis - _uniform(rng, -shift, shift, count, 1, 1)) / size
    y = (axis[:, None] - _uniform(rng, -shift, shift, count, 1, 1)) / size
    angle = _uniform(rng, -tilt, tilt, count, 1, 1)
    cos, sin = np.cos(angle), np.sin(angle)
    return x * cos + y * sin, y * cos - x * sin, size


def _paint(ground: Floats, colour: Floats, coverage: Floats) -> Floats:
    """Blend a colour (N, 3, 1, 1) or (N, 3, 32, 32) over a ground (N, 3, 32, 32) with coverage (N, 32, 32)."""
    return np.asarray(ground + (colour - ground) * coverage[:, None])


def _coverage(distance: Floats) -> Floats:
    """Return the share of a pixel inside an outline at a distance in pixels from the pixel's centre: antialiasing."""
    return (0.5 - distance).clip(0, 1)


def _finish(images: Floats, rng: Generator) -> Pictures:
    """Add pixel noise of a random strength and round to bytes."""
    strength = _uniform(rng, *NOISE, len(images), 1, 1, 1)
    noisy = images + strength * rng.standard_normal(images.shape, dtype=np.float32)
    return np.asarray(np.rint(noisy.clip(0, 1) * 255), np.uint8)


def _contrasts(rng: Generator, count: int) -> Floats:
    """Draw colour differences (N, 3, 1, 1) whose RMS over the channels is uniform in `CONTRAST`."""
    direction = rng.standard_normal((count, 3, 1, 1), dtype=np.float32)
    direction /= np.sqrt(np.square(direction).mean(1, keepdims=True))
    return np.asarray(direction * _uniform(rng, *CONTRAST, count, 1, 1, 1))


def _smooth(rng: Generator, count: int, knots: int, amplitude: float) -> Floats:
    """Draw smooth fields (N, 3, 32, 32): random values on a knots x knots grid, interpolated linearly."""
    place = np.linspace(0, knots - 1, SIDE, dtype=np.float32)
    weights = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(knots, dtype=np.float32)))
    grid = amplitude * rng.standard_normal((count, 3, knots, knots), dtype=np.float32)
    return np.asarray(weights @ grid @ weights.T, np.float32)


def _signs(outline: Outline, count: int, rng: Generator) -> Pictures:
    """Draw signs of one class: a shape, lighter in every channel than the smooth background that shines through."""
    ground = _uniform(rng, 0.15, 0.6, count, 3, 1, 1) + _smooth(rng, count, 4, 0.04)
    x, y, size = _place(rng, count, (10, 14), shift=1.5, tilt=0.15)
    return _finish(_paint(ground, ground + np.abs(_contrasts(rng, count)), _coverage(outline(x, y) * size)), rng)


def _dead_leaves(count: int, rng: Generator) -> Pictures:
    """Draw leaves of three outlines over one another; every picture has a scale and a range of colours."""
    images: Floats = np.tile(_uniform(rng, 0, 1, count, 3, 1, 1), (SIDE, SIDE))
    scale = _uniform(rng, 0.5, 1.5, count, 1, 1)
    spread = _uniform(rng, 0.1, 0.8, count, 1, 1, 1)
    for leaf in range(LEAVES):
        x, y, size = _place(rng, count, (4, 12), shift=SIDE / 2, tilt=np.pi)
        stretch = _uniform(rng, 0.5, 2, count, 1, 1)
        outline = _LEAVES[leaf % len(_LEAVES)](x * (stretch / scale), y / scale)
        colour = 0.5 + spread * _uniform(rng, -0.5, 0.5, count, 3, 1, 1)
        images = _paint(images, colour, _coverage(outline * (size * scale)))
    return _finish(images, rng)


def _two_colours(mixture: Floats, rng: Generator) -> Floats:
    """Mix two random colours by (N, 32, 32) in [0, 1]; they differ as a sign and its background do."""
    count = len(mixture)
    colour = _uniform(rng, 0.25, 0.75, count, 3, 1, 1)
    return _paint(colour, colour + _contrasts(rng, count), mixture)


def _waves(periods: Floats, rng: Generator) -> Pictures:
    """Draw waves along a coordinate (N, 32, 32) in periods, from sinusoidal to nearly square."""
    sine = np.sin(2 * np.pi * periods) * _uniform(rng, 1, 8, len(periods), 1, 1)
    return _finish(_two_colours((0.5 + 0.5 * sine).clip(0, 1), rng), rng)


def _stripes(count: int, rng: Generator) -> Pictures:
    """Draw straight gratings in any direction with periods of three to sixteen pixels."""
    x, _, _ = _place(rng, count, (3, 16), shift=SIDE / 2, tilt=np.pi)
    return _waves(x, rng)


def _ripples(count: int, rng: Generator) -> Pictures:
    """Draw circular waves about any point of the picture with periods of four to twelve pixels."""
    x, y, _ = _place(rng, count, (4, 12), shift=SIDE / 2, tilt=np.pi)
    return _waves(np.hypot(x, y), rng)


def _clouds(count: int, rng: Generator) -> Pictures:
    """Draw noise whose amplitude falls as 1 / frequency^1.5; its channels share half their variance."""
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None, :])
    frequency[0, 0] = np.inf  # no mean: it is drawn separately
    white = rng.standard_normal((count, 3, SIDE, SIDE), dtype=np.float32)
    white += rng.standard_normal((count, 1, SIDE, SIDE), dtype=np.float32)
    cloud = np.fft.irfft2(np.fft.rfft2(white) / frequency**1.5)
    cloud *= _uniform(rng, 0.05, 0.15, count, 1, 1, 1) / cloud.std((1, 2, 3), keepdims=True)
    return _finish(_uniform(rng, 0.3, 0.7, count, 3, 1, 1) + cloud, rng)


def _print(count: int, rng: Generator) -> Pictures:
    """Draw three lines of four digits in a 5 x 3 typeface, cropped anywhere."""
    typeface = np.array([[[int(bit) for bit in f"{int(row, 8):04b}"] for row in d + "0"] for d in _DIGITS], np.float32)
    text = typeface[rng.integers(0, 10, (count, 3, 4))]  # (N, lines, columns, 6, 4)
    pages = text.transpose(0, 1, 3, 2, 4).reshape(count, 18, 16).repeat(2, 1).repeat(2, 2)
    cut = np.arange(SIDE)
    down, right = rng.integers(0, 36, (count, 1, 1)), rng.integers(0, 32, (count, 1, 1))
    ink = pages[np.arange(count)[:, None, None], (cut[:, None] + down) % 36, (cut + right) % 32]
    return _finish(_two_colours(ink, rng), rng)


def _crops(count: int, rng: Generator) -> Pictures:
    """Crop matplotlib's portrait of Grace Hopper at a third of its size, flipped at random."""
    if not _PHOTOGRAPH.is_file():
        raise UserError(f"this matplotlib has no {_PHOTOGRAPH.name}: omit the set with ~ood.photograph")
    with Image.open(_PHOTOGRAPH) as image:
        photograph = np.asarray(image.convert("RGB").reduce(3)).transpose(2, 0, 1)
    windows = np.lib.stride_tricks.sliding_window_view(photograph, (SIDE, SIDE), (1, 2))  # (3, rows, columns, 32, 32)
    rows, columns = (rng.integers(0, limit, count) for limit in windows.shape[1:3])
    crops = windows[:, rows, columns].transpose(1, 0, 2, 3)
    crops = np.where(rng.random((count, 1, 1, 1)) < 0.5, crops, crops[..., ::-1])
    return _finish(crops / 255, rng)


_OOD: dict[OODKind, Callable[[int, Generator], Pictures]] = {
    "stripes": _stripes,
    "ripples": _ripples,
    "clouds": _clouds,
    "print": _print,
    "photograph": _crops,
}
