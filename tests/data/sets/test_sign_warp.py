"""The law of the signs' augmentation in closed form, its sampling against NumPy and SciPy."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from scipy.stats import kstest, uniform

from aloe_lightning.data.sets.sign_warp import (
    SignDraws,
    draw_signs,
    homographies,
    sample,
    warp_signs,
)

SIZE = 32
CORNERS = np.array([[-0.5, -0.5], [31.5, -0.5], [31.5, 31.5], [-0.5, 31.5]])
LARGEST = 7.68
# All draws of the jitter with every coordinate at its largest, either way.
EXTREMES = LARGEST * np.array(list(itertools.product([-1, 1], repeat=8)), dtype=float).reshape(-1, 4, 2)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(count, seed=0):
    return torch.randint(0, 256, (count, 3, SIZE, SIZE), dtype=torch.uint8, generator=seeded(seed))


def draw_homographies(count, size, generator):
    return homographies(draw_signs(count, size, generator), size)


def chosen(count=1, angle=0.0, shift=(0.0, 0.0), jitter=None):
    """Draws that are told rather than drawn."""
    return SignDraws(
        torch.full((count,), angle, dtype=torch.float64),
        torch.tensor(shift, dtype=torch.float64).expand(count, 2),
        torch.zeros(count, 4, 2, dtype=torch.float64) if jitter is None else torch.from_numpy(jitter),
    )


def mapped(maps, points):
    """Points (N, K, 2) under matrices (N, 3, 3), and their denominators (N, K)."""
    ones = np.ones((*points.shape[:2], 1))
    numerators = np.einsum("nij,nkj->nki", maps.numpy(), np.concatenate([points, ones], 2))
    return numerators[..., :2] / numerators[..., 2:], numerators[..., 2]


def slow(image, matrix):
    """The oracle: one image (C, S, S) in float64; a place beyond the horizon is at the infinity it went to."""
    rows, columns = np.mgrid[:SIZE, :SIZE].astype(float)
    x, y, denominator = np.einsum("ij,jrc->irc", matrix, np.stack([columns, rows, np.ones_like(rows)]))
    seen = denominator > 0
    safe = np.where(seen, denominator, 1)
    places = [np.where(seen, part / safe, np.sign(part) * 1e9).clip(-1e6, 1e6) for part in (y, x)]
    return np.stack([map_coordinates(channel.astype(float), places, order=1, mode="nearest") for channel in image])


def assert_agrees(found, images, maps):
    expected = np.stack([slow(image, matrix) for image, matrix in zip(images.numpy(), maps.numpy(), strict=True)])
    assert np.abs(found.numpy() - expected).max() <= 0.5 + 1e-2
    assert (found.numpy() == np.rint(expected)).mean() > 0.999


def test_without_transforms_the_very_bytes_come_back():
    images = noise(5)
    maps = homographies(chosen(5), SIZE)
    assert maps.equal(torch.eye(3, dtype=torch.float64).expand(5, 3, 3))
    assert sample(images, maps).equal(images)


@pytest.mark.parametrize(("right", "down"), [(2, 0), (0, 1), (-2, 2), (-1, -2), (40, -40)])
def test_a_shift_by_whole_pixels_moves_the_picture_and_repeats_its_edge(right, down):
    images = noise(3)
    found = sample(images, homographies(chosen(3, shift=(right, down)), SIZE))
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (40, 40), (40, 40)), mode="edge")
    assert np.array_equal(found.numpy(), padded[:, :, 40 - down : 72 - down, 40 - right : 72 - right])


@pytest.mark.parametrize(("angle", "turns"), [(-math.pi / 2, 1), (math.pi / 2, -1), (math.pi, 2)])
def test_a_quarter_turn_is_numpys(angle, turns):
    images = noise(3)
    found = sample(images, homographies(chosen(3, angle=angle), SIZE))
    assert np.array_equal(found.numpy(), np.rot90(images.numpy(), turns, axes=(2, 3)))


def test_pixels_are_those_of_scipy_under_the_same_maps():
    images, maps = noise(200), draw_homographies(200, SIZE, seeded(1))
    assert_agrees(sample(images, maps), images, maps)


def test_pixels_are_those_of_scipy_under_the_most_extreme_draws_and_beyond_the_horizon_lies_the_edge():
    images, maps = noise(256), homographies(chosen(256, angle=0.2, shift=(2.5, -2.5), jitter=EXTREMES), SIZE)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    pixels = np.stack([columns, rows], -1).reshape(1, -1, 2).repeat(256, 0)
    assert 30 < (mapped(maps, pixels)[1].min(1) < 0).sum() < 60  # the case exists: 48 of 256
    assert_agrees(sample(images, maps), images, maps)


def test_the_pictures_corners_turn_then_shift_then_go_to_the_jittered_places():
    draws = draw_signs(500, SIZE, seeded(2))
    places, denominators = mapped(homographies(draws, SIZE), CORNERS + draws.jitter.numpy())
    offsets = CORNERS - draws.shifts.numpy()[:, None] - 15.5
    turned_back = (offsets[..., 0] + 1j * offsets[..., 1]) * np.exp(-1j * draws.angles.numpy())[:, None]
    assert np.allclose(places, np.stack([turned_back.real, turned_back.imag], -1) + 15.5, atol=1e-9)
    assert denominators.min() > 0


def test_any_point_turns_about_the_centre_and_then_shifts():
    x, y = 3.0, 20.0
    cos, sin = math.cos(0.25), math.sin(0.25)
    goes_to = (
        15.5 + cos * (x - 15.5) - sin * (y - 15.5) + 1.5,
        15.5 + sin * (x - 15.5) + cos * (y - 15.5) - 0.7,
    )
    places, _ = mapped(homographies(chosen(angle=0.25, shift=(1.5, -0.7)), SIZE), np.array([[goes_to]]))
    assert np.allclose(places, [[[x, y]]], atol=1e-12)


def turns(quadrilaterals):
    """Cross products of neighbouring sides (N, 4): all positive if and only if convex and in the corners' sense."""
    sides = np.roll(quadrilaterals, -1, 1) - quadrilaterals
    following = np.roll(sides, -1, 1)
    return sides[..., 0] * following[..., 1] - sides[..., 1] * following[..., 0]


def test_no_draw_folds_the_picture():
    # A cross product is affine in each coordinate alone, so that no draw gives less than the least of the extremes.
    assert np.isclose(turns(CORNERS + EXTREMES).min(), SIZE * (SIZE - 4 * LARGEST))
    assert turns(CORNERS + EXTREMES).min() > 0
    # The denominator is affine, so that it is positive in the quadrilateral if it is at the corners.
    maps = homographies(chosen(256, jitter=EXTREMES), SIZE)
    places, denominators = mapped(maps, CORNERS + EXTREMES)
    assert np.allclose(places, CORNERS, atol=1e-9)
    assert denominators.min() > 0.05
    assert np.allclose(mapped(maps, np.full((256, 1, 2), 15.5))[1], 1)


def furthest_of_eight(value):
    """P(max |jitter| <= value): eight uniform draws within d, d uniform up to 7.68."""
    share = np.clip(value / LARGEST, 0, 1)
    return share + (share - share**8) / 7


def test_the_draws_follow_the_papers_law():
    draws = draw_signs(10_000, SIZE, seeded(3))
    jitter = draws.jitter.flatten(1).numpy()
    degrees, shifts = np.degrees(draws.angles.numpy()), draws.shifts.numpy()
    # The Kolmogorov distance of 10,000 draws exceeds 0.0195 once in a thousand times; a range off by 4 % has more.
    assert kstest(degrees, uniform(-15, 30).cdf).statistic < 0.0195
    assert all(kstest(along, uniform(-2.5, 5).cdf).statistic < 0.0195 for along in shifts.T)
    assert kstest(np.abs(jitter).max(1), furthest_of_eight).statistic < 0.0195
    assert np.allclose(np.abs(jitter).mean(0), LARGEST / 4, atol=0.07)  # E[d] / 2; standard error 0.017
    assert np.allclose(jitter.mean(0), 0, atol=0.11)  # standard error 0.026
    assert 14.9 < np.abs(degrees).max() <= 15
    assert 2.49 < np.abs(shifts).max() <= 2.5
    assert 7.2 < np.abs(jitter).max() <= LARGEST


def test_the_draws_are_independent_of_each_other_but_for_the_common_spread_of_the_corners():
    draws = draw_signs(10_000, SIZE, seeded(4))
    everything = np.column_stack([draws.angles, draws.shifts, draws.jitter.flatten(1)])
    assert np.abs(np.corrcoef(everything.T) - np.eye(11)).max() < 0.05  # standard error 0.01
    # Sizes correlate through d: Var(d) / 4 against E[d^2] / 3 - E[d]^2 / 4.
    sizes = np.corrcoef(np.abs(everything.T))
    assert np.allclose(sizes[3:, 3:][~np.eye(8, dtype=bool)], 3 / 7, atol=0.05)
    assert np.abs(sizes[:3, 3:]).max() < 0.05


def test_warping_is_sampling_under_draws_of_the_generator():
    images = noise(20)
    found = warp_signs(images, seeded(5))
    assert found.equal(sample(images, draw_homographies(20, SIZE, seeded(5))))
    assert found.dtype == torch.uint8
    assert not found.equal(warp_signs(images, seeded(6)))


def test_every_image_has_draws_of_its_own():
    found = warp_signs(noise(1).expand(64, 3, SIZE, SIZE), seeded(7))
    assert len(found.flatten(1).unique(dim=0)) == 64


def test_images_and_channels_are_not_mixed_up():
    levels = torch.arange(256, dtype=torch.uint8)
    flat = torch.stack([levels, levels.flip(0), levels.roll(7)], 1)[:, :, None, None].expand(256, 3, SIZE, SIZE)
    assert warp_signs(flat, seeded(8)).equal(flat)  # and constant pictures stay constant


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_neither_threads_nor_chunks_change_a_byte(threads, chunk):
    images = noise(300)
    expected = warp_signs(images, seeded(9))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert sample(images, draw_homographies(300, SIZE, seeded(9)), chunk).equal(expected)
    finally:
        torch.set_num_threads(before)


def test_no_images_give_no_images():
    assert warp_signs(noise(0), seeded()).shape == (0, 3, SIZE, SIZE)


def test_the_spread_grows_with_the_picture():
    small, large = (draw_signs(10, size, seeded(10)) for size in (16, 64))
    assert torch.allclose(4 * small.jitter, large.jitter)
    assert small.shifts.equal(large.shifts)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_pixels_are_those_of_the_cpu_under_the_same_maps():
    images, maps = noise(300), draw_homographies(300, SIZE, seeded(11))
    on_gpu, on_cpu = sample(images.cuda(), maps.cuda()).cpu().int(), sample(images, maps).int()
    assert (on_gpu - on_cpu).abs().max() <= 1
    assert (on_gpu == on_cpu).double().mean() > 0.999
    assert warp_signs(images.cuda(), torch.Generator("cuda").manual_seed(0)).is_cuda
