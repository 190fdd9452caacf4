"""Sources of images, against slow loops over lists."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aloe_lightning.data.images import source
from aloe_lightning.data.images.source import ExcludingSource, ImageSet, MappedImages, chunks
from data.fakes import noise


def numbered(count, **more):
    """Images that hold their own index."""
    return ImageSet(torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(count, 3, 32, 32), **more)


def places(images):
    assert images.shape[1:] == (3, 32, 32)
    return images[:, 2, 31, 0].tolist()


@st.composite
def cases(draw):
    """(size, indices left out, query among the kept)."""
    size = draw(st.integers(1, 40))
    excluded = draw(st.lists(st.integers(0, size - 1), max_size=60))
    kept = size - len(set(excluded))
    return size, excluded, draw(st.lists(st.integers(0, kept - 1), max_size=20)) if kept else []


@settings(deadline=None)
@given(cases())
def test_what_is_left_out_is_never_seen_and_all_else_keeps_its_order_and_label(case):
    size, excluded, query = case
    kept = [index for index in range(size) if index not in excluded]
    part = ExcludingSource(numbered(size, labels=torch.arange(size) * 3), np.array(excluded, np.int64))
    assert len(part) == len(kept)
    assert places(part.take(torch.tensor(query, dtype=torch.int64))) == [kept[index] for index in query]
    assert part.labels.tolist() == [3 * index for index in kept]


@settings(deadline=None)
@given(cases(), st.data())
def test_leaving_out_twice_leaves_out_both(case, data):
    size, excluded, _ = case
    once = ExcludingSource(numbered(size), np.array(excluded, np.int64))
    kept = [index for index in range(size) if index not in excluded]
    more = data.draw(st.lists(st.integers(0, len(kept) - 1), max_size=9)) if kept else []
    twice = ExcludingSource(once, np.array(more, np.int64))
    assert places(twice.take(torch.arange(len(twice)))) == [kept[i] for i in range(len(kept)) if i not in more]


@pytest.mark.parametrize("order", ["shuffled", "blocks"])
def test_order_is_the_whole_sources_and_labels_are_none_where_it_has_none(order):
    part = ExcludingSource(numbered(5, order=order), np.array([2]))
    assert part.order == order
    assert part.labels is None


def test_the_identity_tells_apart_what_is_left_out():
    whole = numbered(5, identity="file")
    found = [ExcludingSource(whole, np.array(excluded)).identity for excluded in ([0], [1], [0, 1], [1, 0, 0])]
    assert "file" not in found
    assert len({*found[:3], "file"}) == 4
    assert found[2] == found[3]
    assert ExcludingSource(numbered(5), np.array([1])).identity is None


@pytest.mark.parametrize("indices", [[5], [-1], [0, 7], [-2, 3]])
def test_indices_out_of_range_are_refused(indices):
    with pytest.raises(ValueError, match=r"excluded indices must be in 0\.\.4"):
        ExcludingSource(numbered(5), np.array(indices))


@pytest.mark.parametrize("count", [0, 1, 6, 7, 8, 14, 15])
def test_chunks_are_all_images_once_in_order(monkeypatch, count):
    monkeypatch.setattr(source, "CHUNK", 7)
    parts = list(chunks(numbered(count)))
    assert [len(part) for part in parts] == [7] * (count // 7) + [count % 7] * (count % 7 > 0)
    assert [place for part in parts for place in places(part)] == list(range(count))


def test_picked_images_come_in_the_order_asked_with_their_labels():
    picked = numbered(6, labels=torch.arange(6) * 2, identity="file").pick(torch.tensor([4, 0, 4]))
    assert places(picked.images) == [4, 0, 4]
    assert picked.labels.tolist() == [8, 0, 8]
    assert picked.identity is None, "other pixels than the file's"
    assert numbered(6).pick(torch.tensor([1])).labels is None


def test_another_seed_draws_another_subset():
    drawn = {tuple(places(numbered(100).subset(50, seed).images)) for seed in range(5)}
    assert len(drawn) == 5


@settings(deadline=None)
@given(st.lists(st.integers(0, 8), max_size=12))
def test_mapped_images_keep_their_labels_beside_them(query):
    rows, labels, indices = noise(9, 3), torch.arange(9) * 5, torch.tensor(query, dtype=torch.int64)
    images = MappedImages(rows, labels=labels, identity="file")
    assert len(images) == 9
    np.testing.assert_array_equal(images.take(indices).permute(0, 2, 3, 1), rows[query] if query else rows[:0])
    assert images.labels[indices].tolist() == [5 * index for index in query]
