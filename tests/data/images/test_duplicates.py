"""Duplicates among the outliers: against slow loops over all pairs, and none of them is trained on."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from aloe_lightning.data import BatchSizes, ImageSet, RobustOODData
from aloe_lightning.data.images import duplicates, source
from aloe_lightning.data.images.duplicates import (
    Duplicates,
    PerceptualIndex,
    exact_hashes,
    exclude_duplicates,
    find_duplicates,
    perceptual_hashes,
)
from aloe_lightning.data.images.source import ExcludingSource, channels_first
from aloe_lightning.errors import UserError
from data.fakes import noise


def images(pixels, **settings):
    """uint8 (N, 32, 32, 3) -> a source."""
    return ImageSet(channels_first(np.asarray(pixels, np.uint8).reshape(-1, 32, 32, 3)), **settings)


def flat(levels, **settings):
    """Pictures of one grey each: their level is all that tells them apart."""
    return images([np.full((32, 32, 3), level) for level in levels], **settings)


def smooth(count, seed):
    """Pictures of low frequencies, uint8 (count, 32, 32, 3), with room for other brightness."""
    coarse = np.random.default_rng(seed).integers(60, 196, (count, 8, 8, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize((32, 32), Image.Resampling.BICUBIC)) for one in coarse])


def jpeg(pixels, quality):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def hamming(one, other):
    return bin(int(one) ^ int(other)).count("1")


def slow(outliers, others, same):
    """(indices, how many are in each set) by asking `same` of all pairs."""
    found = {name: [i for i, one in enumerate(outliers) if any(same(one, x) for x in known)] for name, known in others}
    return sorted(set().union(*found.values())), {name: len(members) for name, members in found.items()}


@pytest.fixture
def small_chunks(monkeypatch):
    """Several chunks out of a few images."""
    monkeypatch.setattr(source, "CHUNK", 7)
    monkeypatch.setattr(duplicates, "CHUNK", 7)


# --- exact ---

levels = st.lists(st.integers(0, 12), max_size=20)


@pytest.mark.parametrize("chunk", [3, 8192])
def test_equal_pixels_are_found_as_a_loop_over_all_pairs_finds_them(monkeypatch, chunk):
    monkeypatch.setattr(source, "CHUNK", chunk)
    monkeypatch.setattr(duplicates, "CHUNK", chunk)

    @settings(deadline=None, max_examples=40)
    @given(levels, levels, levels)
    def agrees(outliers, near, far):
        found = find_duplicates(flat(outliers), {"near": flat(near), "far": flat(far)})
        wanted = slow(outliers, [("near", near), ("far", far)], int.__eq__)
        assert (found.indices.tolist(), found.count_by_set) == wanted

    agrees()


@pytest.mark.parametrize("place", [(0, 0, 0), (31, 31, 2), (17, 4, 1)])
def test_one_pixel_by_one_level_makes_another_picture(place):
    (pixels,) = noise(1, 1)
    other = pixels.copy()
    other[place] ^= 1
    hashes = exact_hashes(images([pixels, other, pixels]).images)
    assert hashes[0] == hashes[2] != hashes[1]
    assert find_duplicates(images([other]), {"set": images([pixels])}).indices.tolist() == []


def test_the_layout_in_memory_is_no_part_of_a_picture():
    pixels = noise(3, 1)
    last = torch.from_numpy(pixels).permute(0, 3, 1, 2)  # channels last in memory
    assert exact_hashes(last).tolist() == exact_hashes(last.contiguous()).tolist()


def test_planted_duplicates_are_found_and_one_that_is_in_two_sets_counts_in_both(small_chunks):
    outliers, train, test = noise(30, 1), noise(20, 2), noise(10, 3)
    outliers[4], outliers[29], outliers[11] = train[19], train[0], test[5]
    train[7] = test[8] = outliers[17]
    others = {"train": images(train), "test": images(test), "far": images(noise(9, 4))}
    found = find_duplicates(images(outliers), others)
    assert found.indices.tolist() == [4, 11, 17, 29]
    assert found.count_by_set == {"train": 3, "test": 2, "far": 0}
    kept, same = exclude_duplicates(images(outliers), others)
    assert same.indices.tolist() == found.indices.tolist()
    rest = [index for index in range(30) if index not in (4, 11, 17, 29)]
    assert kept.take(torch.arange(len(kept))).equal(images(outliers[rest]).images)


def test_an_outlier_that_comes_twice_is_found_twice():
    assert find_duplicates(flat([5, 1, 5]), {"set": flat([5, 5])}).count_by_set == {"set": 2}


def test_outliers_without_duplicates_are_the_very_same_source():
    outliers = images(noise(5, 1))
    assert exclude_duplicates(outliers, {"set": images(noise(5, 2))})[0] is outliers


@pytest.mark.parametrize("distance", [None, 0, 3])
def test_sets_without_an_image_and_no_sets_at_all_hold_no_duplicates(distance):
    found = find_duplicates(flat([1, 2]), {"none": flat([])}, distance)
    assert (found.indices.tolist(), found.count_by_set) == ([], {"none": 0})
    assert find_duplicates(flat([1, 2]), {}, distance).indices.tolist() == []
    assert find_duplicates(flat([]), {"set": flat([1])}, distance).indices.tolist() == []


def test_what_was_found_is_told_by_set():
    told = Duplicates(np.arange(1234), {"train": 1200, "far": 0, "test": 34})
    assert str(told) == "1,234 (1,200 in train, 34 in test)"
    assert str(Duplicates(np.arange(0), {"train": 0})) == "none"


# --- perceptual ---


def slow_bits(pixels):
    """Which of the 8 x 8 lowest frequencies of the grey picture exceed their median, by the sum that defines them."""
    grey = pixels.astype(float) @ [0.299, 0.587, 0.114]
    places = np.arange(32) + 0.5
    waves = [np.cos(np.pi / 32 * places * k) * np.sqrt((1 + (k > 0)) / 32) for k in range(8)]
    spectrum = np.array([[(grey * np.outer(down, right)).sum() for right in waves] for down in waves])
    return (spectrum > np.median(spectrum)).ravel()


@pytest.mark.parametrize("pixels", [noise(6, 1), smooth(6, 2)])
def test_the_bits_are_those_of_the_lowest_frequencies(pixels):
    hashes = perceptual_hashes(images(pixels).images)
    bits = np.unpackbits(hashes.view(np.uint8).reshape(-1, 8), axis=1).astype(bool)
    np.testing.assert_array_equal(bits, [slow_bits(one) for one in pixels])
    assert hashes.dtype == np.uint64


@pytest.mark.parametrize("change", [-6, 6])
def test_other_brightness_leaves_the_hash_nearly_as_it_is(change):
    pixels = smooth(50, 3)
    first, second = (perceptual_hashes(images(one).images) for one in (pixels, pixels + np.int16(change)))
    assert sum(hamming(*pair) <= 3 for pair in zip(first, second, strict=True)) >= 48


def test_compression_leaves_the_hash_nearly_as_it_is():
    pixels = smooth(50, 4)
    first, second = (perceptual_hashes(images(one).images) for one in (pixels, [jpeg(one, 85) for one in pixels]))
    assert sum(hamming(*pair) <= 3 for pair in zip(first, second, strict=True)) >= 45


@pytest.mark.parametrize("make", [smooth, noise])
def test_unrelated_pictures_are_never_near(make):
    hashes = perceptual_hashes(images(make(50, 5)).images)
    assert min(hamming(hashes[i], hashes[j]) for i in range(50) for j in range(i)) > 3


hashes = st.integers(0, 2**64 - 1)
flips = st.lists(st.integers(0, 63), max_size=5).map(lambda bits: sum({1 << bit for bit in bits}))


@settings(deadline=None)
@given(known=st.lists(hashes, min_size=1, max_size=8), far=st.lists(hashes, max_size=4), data=st.data())
@pytest.mark.parametrize("distance", [0, 1, 2, 3])
def test_near_hashes_are_found_as_a_loop_over_all_pairs_finds_them(distance, known, far, data):
    asked = far + [one ^ data.draw(flips) for one in known]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "perceptual_hashes", lambda _: np.array(known, np.uint64))
        near = PerceptualIndex(flat([0])).near(np.array(asked, np.uint64), distance)
    assert near.tolist() == [any(hamming(one, x) <= distance for x in known) for one in asked]


@pytest.mark.parametrize("distance", [0, 1, 2, 3])
def test_similar_pictures_are_found_as_a_loop_over_all_pairs_finds_them(small_chunks, distance):
    originals, draws = smooth(12, 6), np.random.default_rng(7)
    near, far = originals[:6], originals[6:]
    changed = np.concatenate([originals + draws.integers(-k, k + 1, originals.shape) for k in (1, 3, 6, 12)])
    outliers = np.clip(np.concatenate([originals[:2], changed, smooth(9, 8)]), 0, 255).astype(np.uint8)
    looks = [perceptual_hashes(images(pixels).images).tolist() for pixels in (outliers, near, far)]
    wanted = slow(looks[0], [("near", looks[1]), ("far", looks[2])], lambda x, y: hamming(x, y) <= distance)
    found = find_duplicates(images(outliers), {"near": images(near), "far": images(far)}, distance)
    assert (found.indices.tolist(), found.count_by_set) == wanted
    assert set(found.indices) >= {0, 1}
    nearest = [min(hamming(one, x) for x in looks[1] + looks[2]) for one in looks[0]]
    assert {0, 2, 4} < set(nearest), "half of the bits are set: distances are even. Else this test would be idle"


def test_another_brightness_is_found_by_the_look_alone():
    pixels = smooth(10, 9)
    outliers, others = images(pixels + np.uint8(6)), {"set": images(pixels)}
    assert find_duplicates(outliers, others).indices.tolist() == []
    assert find_duplicates(outliers, others, 3).indices.tolist() == list(range(10))


@pytest.mark.parametrize("distance", [-1, 4])
def test_a_distance_that_is_not_searched_for_is_refused(distance):
    with pytest.raises(ValueError, match=rf"distance must be in 0\.\.3, got {distance}"):
        find_duplicates(flat([1]), {"set": flat([1])}, distance)


# --- the cache ---


@pytest.fixture
def hashed(monkeypatch, tmp_path):
    """A cache of the test's own, and how many images were hashed."""
    monkeypatch.setenv("ALOE_CACHE", str(tmp_path))
    counts = {"exact_hashes": 0, "perceptual_hashes": 0}

    def counting(name, function):
        def count(part):
            counts[name] += len(part)
            return function(part)

        return count

    for name, function in (("exact_hashes", exact_hashes), ("perceptual_hashes", perceptual_hashes)):
        monkeypatch.setattr(duplicates, name, counting(name, function))
    return counts


@pytest.mark.parametrize("distance", [None, 2])
def test_what_was_searched_once_is_remembered(hashed, distance):
    outliers, others = flat([1, 5, 9], identity="outliers"), {"set": flat([5, 6], identity="set")}
    first = find_duplicates(outliers, others, distance)
    assert hashed == {"exact_hashes": 5, "perceptual_hashes": 0 if distance is None else 5}
    again = find_duplicates(outliers, others, distance)
    assert hashed == {"exact_hashes": 5, "perceptual_hashes": 0 if distance is None else 5}
    assert again.indices.tolist() == first.indices.tolist()
    assert again.indices.dtype == first.indices.dtype == np.int64
    assert again.count_by_set == first.count_by_set


def test_of_a_set_in_memory_only_that_set_is_hashed_again(hashed):
    outliers, others = flat([1, 5, 9], identity="outliers"), {"set": flat([5, 6])}
    for count in (5, 7):
        assert find_duplicates(outliers, others).indices.tolist() == [1]
        assert hashed["exact_hashes"] == count


def test_outliers_in_memory_are_searched_each_time(hashed):
    for level, wanted in ((5, [0]), (6, [])):
        assert find_duplicates(flat([level]), {"set": flat([5])}).indices.tolist() == wanted


def test_other_sets_outliers_names_and_distances_are_not_confused(hashed):
    outliers = flat([1, 5, 9], identity="outliers")

    def found(others, outliers=outliers, distance=None):
        result = find_duplicates(outliers, others, distance)
        return result.indices.tolist(), result.count_by_set

    assert found({"set": flat([5])}) == ([1], {"set": 1})
    assert found({"set": flat([1])}) == ([0], {"set": 1})
    assert found({"set": flat([1, 5])}) == ([0, 1], {"set": 2})
    assert found({"set": flat([5], identity="five")}) == ([1], {"set": 1})
    assert found({"set": flat([9], identity="nine")}) == ([2], {"set": 1})
    assert found({"other": flat([5])}) == ([1], {"other": 1})
    assert found({"set": flat([5]), "more": flat([9])}) == ([1, 2], {"set": 1, "more": 1})
    assert found({"more": flat([5]), "set": flat([9])}) == ([1, 2], {"more": 1, "set": 1})
    assert found({"set": flat([5])}, outliers=flat([5, 5], identity="others")) == ([0, 1], {"set": 2})
    assert found({"set": flat([5])}, distance=0) == ([0, 1, 2], {"set": 3}), "plain grey has one look"
    assert found({"set": flat([5])}) == ([1], {"set": 1})


def test_what_is_left_of_the_outliers_is_told_apart_by_what_was_left_out(hashed):
    outliers = flat([1, 5, 9], identity="outliers")
    parts = [ExcludingSource(outliers, np.array(excluded)) for excluded in ([0], [1])]
    found = [find_duplicates(part, {"set": flat([5])}).indices.tolist() for part in parts]
    assert found == [[0], []]


# --- training ---


class Inliers:
    name, split, augment_outliers = "tiny", "test", False

    def __init__(self, train, test):
        self.train, self.test = train, test

    def excluded_from_training(self):
        return {}

    def train_set(self):
        return replace(flat(self.train), labels=torch.arange(len(self.train)))

    def test_set(self):
        return replace(flat(self.test), labels=torch.arange(len(self.test)))


class Set:
    def __init__(self, *levels, identity=None):
        self.source = flat(levels, identity=identity)

    def load(self):
        return self.source


def data_with(outliers, ood, distance=None):
    inliers = Inliers([1, 2, 3, 4, 5, 6], [7, 8])
    sizes = BatchSizes(inliers=2, outliers=5)
    return RobustOODData(inliers, outliers, ood, name="tiny", batch=sizes, seed=0, perceptual_distance=distance)


@pytest.mark.parametrize("identity", [None, "hundred and more"])
def test_no_duplicate_is_ever_trained_on(tmp_path, monkeypatch, identity):
    monkeypatch.setenv("ALOE_CACHE", str(tmp_path))
    outliers = Set(100, 6, 101, 7, 102, 9, 8, 103, 3, identity=identity)
    data = data_with(outliers, {"far": Set(9, 3), "farther": Set(50)})
    data.setup("fit")
    loader = data.train_dataloader()
    seen = set()
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        batches = [batch.outliers[:, 0, 0, 0].tolist() for batch in loader]
        assert [len(batch) for batch in batches] == [5, 5, 5]
        seen |= {level for batch in batches for level in batch}
    assert seen == {100, 101, 102, 103}
    excluded = {"tiny (training)": 2, "tiny (test)": 2, "far": 2, "farther": 0}
    assert data.sizes() == {
        "train": 6,
        "test": 2,
        "outliers": 4,
        "outliers_excluded": excluded,
        "ood": {"far": 2, "farther": 1},
    }
    assert str(data.duplicates) == "5 (2 in tiny (training), 2 in tiny (test), 2 in far)"


def test_what_only_looks_alike_is_left_out_if_asked():
    ood = {"far": Set(9)}
    data = data_with(Set(100, 101), ood)
    data.setup("fit")
    assert data.sizes()["outliers"] == 2
    with pytest.raises(UserError, match="no outliers remain"):
        data_with(Set(100, 101), ood, distance=0).setup("fit")


def test_outliers_that_are_all_elsewhere_are_told():
    with pytest.raises(UserError) as error:
        data_with(Set(1, 9), {"far": Set(9)}).setup("fit")
    assert str(error.value) == "no outliers remain, all are also in other sets: 2 (1 in tiny (training), 1 in far)"
