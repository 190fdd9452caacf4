"""Crop and flip of a whole batch, against one image at a time."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aloe_lightning.data.augmentation import random_crop_flip


def cut(image, padding, top, left, flip):
    """The oracle: pad, crop, mirror one image (C, H, W), pixel by pixel."""
    height, width = image.shape[1:]
    result = torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            source_row = row + top - padding
            source_column = (width - 1 - column if flip else column) + left - padding
            if 0 <= source_row < height and 0 <= source_column < width:
                result[:, row, column] = image[:, source_row, source_column]
    return result


@settings(deadline=None)
@given(
    count=st.integers(1, 4),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    padding=st.integers(0, 3),
    seed=st.integers(0, 2**31),
)
def test_pixels_are_those_of_one_image_at_a_time_given_the_same_draws(count, height, width, padding, seed):
    source = torch.Generator().manual_seed(seed + 1)
    images = torch.randint(1, 256, (count, 3, height, width), dtype=torch.uint8, generator=source)
    found = random_crop_flip(images, padding, torch.Generator().manual_seed(seed))
    again = torch.Generator().manual_seed(seed)
    tops, lefts = (torch.randint(2 * padding + 1, (count, 1), generator=again).flatten().tolist() for _ in range(2))
    flips = (torch.randint(2, (count, 1), generator=again) == 0).flatten().tolist()
    draws = zip(images, tops, lefts, flips, strict=True)
    slow = [cut(image, padding, top, left, flip) for image, top, left, flip in draws]
    assert found.equal(torch.stack(slow))


def placed(count):
    """Images whose pixels tell their own row and column: 1 + 100 row + column."""
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    return (1 + 100 * rows + columns).short().expand(count, 3, 32, 32)


def draws_of(images):
    """(top, left, flipped) of each augmented image of `placed`, read off its middle; pad-4 leaves the middle whole."""
    middle, right = images[:, 0, 16, 16] - 1, images[:, 0, 16, 17] - 1
    flipped = right < middle
    columns = torch.where(flipped, middle % 100 - 15, middle % 100 - 16)
    return list(zip((middle // 100 - 12).tolist(), (columns + 4).tolist(), flipped.tolist(), strict=True))


def test_every_sample_has_a_draw_of_its_own_and_every_place_is_as_likely():
    count = 3240
    draws = draws_of(random_crop_flip(placed(count), generator=torch.Generator().manual_seed(0)))
    seen = Counter(draws)
    assert set(seen) == {(top, left, flip) for top in range(9) for left in range(9) for flip in (False, True)}
    chi_square = sum((found - count / 162) ** 2 / (count / 162) for found in seen.values())
    assert chi_square < 240  # 161 degrees of freedom: exceeded with a probability of 5e-5


def test_each_image_is_one_crop_of_itself():
    images = placed(12)
    found = random_crop_flip(images, generator=torch.Generator().manual_seed(1))
    for image, result, draw in zip(images, found, draws_of(found), strict=True):
        assert result.equal(cut(image, 4, *draw))


def test_images_are_not_mixed_up():
    images = torch.arange(1, 41).view(-1, 1, 1, 1).expand(40, 3, 32, 32)
    assert random_crop_flip(images).amax((1, 2, 3)).tolist() == list(range(1, 41))


def test_all_channels_of_an_image_move_together():
    images = placed(8) + torch.tensor([0, 10_000, 20_000], dtype=torch.int16).view(1, 3, 1, 1)
    found = random_crop_flip(images)
    inside = found[:, 0] > 0
    for channel in (1, 2):
        assert (found[:, channel] - found[:, 0])[inside].unique().tolist() == [10_000 * channel]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_the_type_is_kept(dtype):
    assert random_crop_flip(torch.ones(2, 3, 32, 32, dtype=dtype)).dtype == dtype


def test_the_draws_are_the_generators():
    images = torch.rand(16, 3, 32, 32)
    seeded = [random_crop_flip(images, generator=torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)]
    assert seeded[0].equal(seeded[1])
    assert not seeded[0].equal(seeded[2])
    torch.manual_seed(5)
    assert random_crop_flip(images).equal(seeded[0])
