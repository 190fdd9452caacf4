"""The balanced training set, against slow loops and on the real signs."""

import os
import shutil
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aloe_lightning.data import GTSRB, ImageSet
from aloe_lightning.data.sets import balanced as balance
from aloe_lightning.data.sets.balanced import BalancedImages, balanced_file, shares_of_originals, source_indices
from aloe_lightning.data.sets.sign_warp import warp_signs
from data.fakes import noise

LABELS = torch.tensor([2, 0, 1, 0, 2, 0, 2, 2, 0])  # 4, 1 and 4 of the three classes


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A fresh cache."""
    monkeypatch.setenv("ALOE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def originals(seed=1, labels=LABELS):
    return ImageSet(torch.from_numpy(noise(len(labels), seed)).permute(0, 3, 1, 2).contiguous(), labels)


def scatter(images, draws):
    """An augmentation that leaves nothing as it was but the top left pixel, which says whose image it is."""
    drawn = torch.randint(0, 256, images.shape, generator=draws, dtype=torch.uint8)
    drawn[:, :, 0, 0] = images[:, :, 0, 0]
    return drawn


def refuse(images, draws):
    raise AssertionError("augmented again")


def original_of(image, whole):
    """Index of the original of an image that `scatter` has drawn, or that is one."""
    (place,) = [i for i in range(len(whole)) if whole.images[i, :, 0, 0].tolist() == image[0, 0].tolist()]
    return place


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), max_size=30), st.integers(1, 12))
def test_the_places_of_a_class_go_round_its_originals(more, per_class):
    labels = [*more, *range(max(more, default=0) + 1)]  # each class at least once
    expected, firsts = [], []
    for label in range(max(labels) + 1):
        members = [index for index, of_label in enumerate(labels) if of_label == label]
        if len(members) > per_class:
            expected.append(None)  # a draw, see below
        else:
            expected.append([members[place % len(members)] for place in range(per_class)])
        firsts += [place < len(members) for place in range(per_class)]
    indices, is_original = source_indices(torch.tensor(labels), per_class)
    assert is_original.tolist() == firsts
    for label, (found, wanted) in enumerate(zip(indices.view(-1, per_class).tolist(), expected, strict=True)):
        members = [index for index, of_label in enumerate(labels) if of_label == label]
        if wanted is None:
            assert found == sorted(set(found))
            assert set(found) <= set(members)
        else:
            assert found == wanted
    for label in range(max(labels) + 1):
        uses = Counter(indices[label * per_class : (label + 1) * per_class].tolist())
        assert max(uses.values()) - min(uses.values()) <= 1


def test_of_a_class_with_too_many_originals_some_of_all_are_drawn_by_the_seed():
    labels = torch.zeros(300, dtype=torch.int64)
    draws = [source_indices(labels, 30, seed)[0].tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert min(draws[0]) < 60
    assert max(draws[0]) > 240


@pytest.mark.parametrize(("per_class", "shares"), [(8, [0.5, 0.125, 0.5]), (4, [1, 0.25, 1]), (2, [1, 0.5, 1])])
def test_the_share_that_stays_is_that_of_the_originals(per_class, shares):
    assert shares_of_originals(originals(), per_class, 3).tolist() == shares
    indices, is_original = source_indices(LABELS, per_class)
    assert [float(is_original[LABELS[indices] == label].double().mean()) for label in range(3)] == shares
    assert shares_of_originals(originals(), 8, 5).tolist() == [0.5, 0.125, 0.5, 0, 0]


def test_balanced_images_are_the_originals_at_their_positions():
    whole = originals()
    images = BalancedImages(whole, 5)
    assert len(images) == 15
    assert images.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    asked = torch.tensor([14, 0, 4, 7, 0])
    assert images.take(asked).equal(whole.images[[0, 1, 1, 2, 1]])  # class 0 is 1, 3, 5, 8; class 2 is 0, 4, 6, 7


@pytest.mark.parametrize("chunk", [4, 4096])
@pytest.mark.parametrize("per_class", [1, 3, 4, 9, 10])
def test_originals_stand_first_unchanged_and_the_rest_is_drawn_evenly_from_them(monkeypatch, per_class, chunk):
    monkeypatch.setattr(balance, "IMAGES_PER_DRAW", chunk)
    whole = originals()
    made = balanced_file(whole, per_class, 0, scatter)
    assert made.rows.shape == (3 * per_class, 32, 32, 3)
    assert made.labels.tolist() == [label for label in range(3) for _ in range(per_class)]
    rows = whole.images.permute(0, 2, 3, 1).numpy()
    for label in range(3):
        members = torch.nonzero(label == LABELS).ravel().tolist()
        mine = made.rows[label * per_class : (label + 1) * per_class]
        for place, image in enumerate(mine):
            assert (image == rows[original_of(image, whole)]).all() == (place < len(members))
        uses = Counter(original_of(image, whole) for image in mine)
        assert set(uses) <= set(members)
        assert len(uses) == min(per_class, len(members))
        assert max(uses.values()) - min(uses.values()) <= 1
    assert len(np.unique(made.rows.reshape(len(made.rows), -1), axis=0)) == 3 * per_class, "no draw comes twice"


def test_the_file_is_the_same_to_the_byte_for_a_seed_and_another_for_another(folder, monkeypatch):
    def content(seed, where):
        monkeypatch.setenv("ALOE_CACHE", str(folder / where))
        torch.manual_seed(len(where))
        balanced_file(originals(), 9, seed, warp_signs)
        (file,) = (folder / where / "balanced").glob("*.npy")
        return file.name, file.read_bytes()

    (name, first), again, (other_name, other) = content(3, "a"), content(3, "bb"), content(4, "ccc")
    assert (name, first) == again
    assert other_name != name
    rows = [np.frombuffer(data[128:], np.uint8).reshape(27, 32, 32, 3) for data in (first, other)]
    _, is_original = source_indices(LABELS, 9)
    assert (rows[0] == rows[1]).all((1, 2, 3)).tolist() == is_original.tolist()


def test_what_is_there_is_not_augmented_again(folder):
    first = balanced_file(originals(), 6, 0, scatter)
    again = balanced_file(originals(), 6, 0, refuse)
    np.testing.assert_array_equal(first.rows, again.rows)
    assert first.identity == again.identity
    assert isinstance(again.rows, np.memmap)


def test_other_originals_labels_counts_and_seeds_have_files_of_their_own(folder):
    pixel, label = originals(), originals(labels=LABELS.roll(1))
    pixel.images[4, 2, 31, 31] += 1
    cases = [(originals(), 6, 0), (pixel, 6, 0), (label, 6, 0), (originals(), 7, 0), (originals(), 6, 1)]
    identities = {balanced_file(*case, scatter).identity for case in cases}
    assert len(identities) == len(list((folder / "balanced").glob("*.npy"))) == len(cases)


def test_an_augmentation_that_fails_leaves_nothing_and_may_be_tried_again(folder, monkeypatch):
    monkeypatch.setattr(balance, "IMAGES_PER_DRAW", 5)
    calls = []

    def fails_late(images, draws):
        calls.append(len(images))
        if len(calls) == 3:
            raise RuntimeError("out of memory")
        return scatter(images, draws)

    with pytest.raises(RuntimeError, match="out of memory"):
        balanced_file(originals(), 6, 0, fails_late)
    assert calls == [5, 5, 5]
    assert [file.name for file in (folder / "balanced").iterdir() if ".npy" in file.name and file.stat().st_size] == []
    np.testing.assert_array_equal(
        balanced_file(originals(), 6, 0, fails_late).rows, balanced_file(originals(), 6, 0, refuse).rows
    )
    assert calls == [5, 5, 5, 5, 5, 5, 3]


@pytest.mark.slow
def test_the_real_signs_are_balanced_and_keep_their_colours(shared, tmp_path, folder):
    """430,000 images: 1.3 GB in the cache."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(shared / "data" / "unpack.py"), str(tmp_path), "gtsrb"]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    data = GTSRB(root=str(tmp_path), verify=False)
    images, whole = data.train_set(), data.originals()
    assert images.labels.bincount().tolist() == [10_000] * 43
    assert os.path.getsize(images.rows.filename) == 128 + 430_000 * 3072
    for label in range(43):
        mine, (_, is_original) = (
            images.rows[label * 10_000 : (label + 1) * 10_000],
            source_indices(whole.labels, 10_000),
        )
        of_class = whole.images[whole.labels == label].permute(0, 2, 3, 1).numpy()
        stays = is_original[label * 10_000 : (label + 1) * 10_000].numpy()
        np.testing.assert_array_equal(mine[stays], of_class)
        colours = [pictures.mean((0, 1, 2), dtype=np.float64) for pictures in (mine[~stays], of_class)]
        np.testing.assert_allclose(*colours, atol=4)
    shutil.rmtree(folder)  # pytest keeps folders of the last three runs
