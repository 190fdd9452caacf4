"""The sampler of an epoch: properties over sizes, seeds, epochs and processes."""

from collections import Counter
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aloe_lightning.data.batches import Batch, EpochSampler, TrainingImages
from aloe_lightning.data.images.source import ImageSet
from aloe_lightning.runtime.seeding import generator

sizes = st.fixed_dictionaries(
    {
        "num_inliers": st.integers(1, 60),
        "num_outliers": st.integers(0, 60),
        "inlier_batch": st.integers(1, 12),
        "outlier_batch": st.integers(1, 24),
        "seed": st.integers(0, 2**31 - 1),
    }
)


def sampler_of(size, epoch=0):
    sampler = EpochSampler(
        size["num_inliers"], size["num_outliers"], **{key: size[key] for key in size if not key.startswith("num")}
    )
    sampler.set_epoch(epoch)
    return sampler


def epoch_of(size, epoch=0, rank=0, world=1):
    """[(inlier indices, outlier indices)] of a process."""
    with patch("aloe_lightning.data.batches.rank_and_world_size", return_value=(rank, world)):
        sampler = sampler_of(size, epoch)
        batches = [(batch.inliers.tolist(), batch.outliers.tolist()) for batch in sampler]
        assert len(batches) == len(sampler)
    return batches


def spread(batches):
    return [index for inliers, _ in batches for index in inliers], [index for _, beside in batches for index in beside]


def even(outliers, num_outliers):
    """No outlier comes for the nth time before all came n - 1 times."""
    counts = Counter(outliers)
    return max(counts.values()) - min(counts.get(index, 0) for index in range(num_outliers)) <= 1


@settings(deadline=None)
@given(sizes, st.integers(0, 50))
def test_an_epoch_is_one_pass_over_the_inliers_in_full_batches(size, epoch):
    batches = epoch_of(size, epoch)
    inliers, _ = spread(batches)
    assert sorted(inliers) == list(range(size["num_inliers"]))
    full, rest = divmod(size["num_inliers"], size["inlier_batch"])
    assert [len(chosen) for chosen, _ in batches] == [size["inlier_batch"]] * full + [rest] * (rest > 0)


@settings(deadline=None)
@given(sizes, st.integers(0, 50))
def test_no_outlier_comes_twice_unless_they_must_and_then_evenly(size, epoch):
    _, outliers = spread(epoch_of(size, epoch))
    if not size["num_outliers"]:
        assert outliers == []
        return
    assert set(outliers) <= set(range(size["num_outliers"]))
    assert even(outliers, size["num_outliers"])


@settings(deadline=None)
@given(sizes)
def test_outliers_stand_beside_inliers_in_the_ratio_of_the_batch_sizes(size):
    for inliers, outliers in epoch_of(size):
        exact = len(inliers) * size["outlier_batch"] / size["inlier_batch"] if size["num_outliers"] else 0
        assert exact <= len(outliers) < exact + 1


processes = st.integers(2, 5)


def epochs_of(size, epoch, world):
    return [epoch_of(size, epoch, rank, world) for rank in range(world)]


@settings(deadline=None)
@given(sizes, st.integers(0, 9), processes)
def test_several_processes_share_an_epoch_and_see_each_inlier_once(size, epoch, world):
    """Also where their number does not divide that of the inliers: one was left out in each epoch."""
    epochs = epochs_of(size, epoch, world)
    assert len({len(batches) for batches in epochs}) == 1, "a process that makes one step more waits for ever"
    if not epochs[0]:
        assert size["num_inliers"] < world
        return
    parts = [spread(batches) for batches in epochs]
    assert sorted(index for inliers, _ in parts for index in inliers) == list(range(size["num_inliers"]))
    ratio = size["outlier_batch"] if size["num_outliers"] else 0
    for batches in epochs:
        assert all(len(beside) == -(-len(own) * ratio // size["inlier_batch"]) for own, beside in batches)
        assert all(len(own) == size["inlier_batch"] for own, _ in batches[:-1])
    lasts = [len(batches[-1][0]) for batches in epochs]
    assert 1 <= min(lasts) <= max(lasts) <= min(lasts) + 1
    if ratio:
        counts = Counter(index for _, outliers in parts for index in outliers)
        spare = max(counts.values()) - min(counts.get(index, 0) for index in range(size["num_outliers"]))
        more = -(-size["outlier_batch"] // size["inlier_batch"]) * (world - 1)  # of those that take an image more
        assert spare <= 1 + more * (max(lasts) > min(lasts))


@settings(deadline=None)
@given(sizes, processes)
def test_a_batch_of_several_processes_is_that_of_one(size, world):
    """Of the same images; a last one with fewer images than processes joins the one before."""
    alone = epoch_of(size | {"inlier_batch": size["inlier_batch"] * world})
    shares = epochs_of(size, 0, world)
    together = [sorted(index for own, _ in batches for index in own) for batches in zip(*shares, strict=True)]
    expected = [sorted(own) for own, _ in alone]
    if len(expected) > len(together) > 0:
        expected[-2:] = [sorted(expected[-2] + expected[-1])]
    assert together == (expected if together else [])


@settings(deadline=None)
@given(sizes, processes)
def test_weights_make_the_mean_of_processes_that_of_their_images(size, world):
    values = torch.rand(size["num_inliers"], generator=generator(1), dtype=torch.float64)
    with patch("aloe_lightning.data.batches.rank_and_world_size") as place:
        batches = []
        for rank in range(world):
            place.return_value = (rank, world)
            batches.append(list(sampler_of(size)))
    for step in zip(*batches, strict=True):
        weighted = sum(values[batch.inliers].mean() * batch.weight for batch in step) / world
        torch.testing.assert_close(weighted, values[torch.cat([batch.inliers for batch in step])].mean())


@settings(deadline=None)
@given(sizes, st.integers(0, 50))
def test_the_order_is_a_function_of_seed_and_epoch_alone(size, epoch):
    torch.manual_seed(1)
    first = epoch_of(size, epoch)
    torch.manual_seed(2)
    sampler = sampler_of(size, epoch + 1)
    list(sampler)
    sampler.set_epoch(epoch)
    assert [(batch.inliers.tolist(), batch.outliers.tolist()) for batch in sampler] == first


@pytest.mark.parametrize("change", [{"seed": 8}, {"epoch": 4}])
def test_another_seed_or_epoch_has_another_order(change):
    size = {"num_inliers": 50, "num_outliers": 50, "inlier_batch": 10, "outlier_batch": 10}
    inliers, outliers = spread(epoch_of(size | {"seed": 7}, epoch=3))
    others = spread(epoch_of(size | {"seed": change.get("seed", 7)}, epoch=change.get("epoch", 3)))
    assert inliers != others[0]
    assert outliers != others[1]
    assert inliers != outliers


def test_every_batch_of_every_epoch_and_process_has_a_seed_of_its_own_and_always_the_same():
    size = {"num_inliers": 40, "num_outliers": 40, "inlier_batch": 5, "outlier_batch": 5}

    def seeds():
        for seed, epoch, rank in ((seed, epoch, rank) for seed in (0, 1) for epoch in range(3) for rank in (0, 1)):
            with patch("aloe_lightning.data.batches.rank_and_world_size", return_value=(rank, 2)):
                yield from (batch.seed for batch in sampler_of(size | {"seed": seed}, epoch))

    found = list(seeds())
    assert len(found) == 2 * 3 * 2 * 4
    assert len(set(found)) == len(found)
    assert list(seeds()) == found


def test_a_batch_draws_apart_for_each_purpose():
    batch = Batch(pictures(0, 2), torch.arange(2), pictures(0, 2), seed=3)
    first, again, other = (torch.rand(9, generator=batch.generator(purpose)) for purpose in ("a", "a", "b"))
    assert first.equal(again)
    assert not first.equal(other)


def test_the_papers_batches_make_782_steps_of_cifar():
    size = {"num_inliers": 50_000, "num_outliers": 300_000, "inlier_batch": 64, "outlier_batch": 128, "seed": 0}
    batches = epoch_of(size)
    assert len(batches) == 782
    assert [len(part) for part in batches[0]] == [64, 128]
    assert [len(part) for part in batches[-1]] == [16, 32]
    _, outliers = spread(batches)
    assert len(set(outliers)) == len(outliers) == 100_000


def test_a_process_without_a_group_is_alone():
    from aloe_lightning.runtime.distributed import rank_and_world_size

    assert rank_and_world_size() == (0, 1)


def pictures(first, count):
    return torch.arange(first, first + count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(count, 3, 32, 32)


def test_the_images_of_a_plan_are_gathered_with_their_labels():
    inliers = ImageSet(pictures(0, 9), torch.arange(9) * 11)
    gather = TrainingImages(inliers, ImageSet(pictures(100, 30)))
    size = {"num_inliers": 9, "num_outliers": 30, "inlier_batch": 4, "outlier_batch": 6, "seed": 3}
    for indices in sampler_of(size):
        batch = gather[indices]
        assert batch.inliers[:, 0, 0, 0].tolist() == indices.inliers.tolist()
        assert batch.labels.tolist() == [11 * index for index in indices.inliers.tolist()]
        assert batch.seed == indices.seed
        assert batch.outliers[:, 2, 31, 31].tolist() == [100 + index for index in indices.outliers.tolist()]


def test_without_outliers_a_batch_has_none_of_the_inliers_shape():
    gather = TrainingImages(ImageSet(pictures(0, 9), torch.arange(9)), None)
    (batch, *_) = [gather[indices] for indices in EpochSampler(9, 0, inlier_batch=4, outlier_batch=6, seed=3)]
    assert batch.outliers.shape == (0, 3, 32, 32)
    assert batch.outliers.dtype == torch.uint8


def blocks_of(size, epoch=0, rank=0, world=1):
    """The outliers of a process in an epoch that takes them in blocks, and their number."""
    batches = epoch_of(size | {"outlier_order": "blocks"}, epoch, rank, world)
    joins = 0 < size["num_inliers"] % (size["inlier_batch"] * world) < world
    extra = -(-size["outlier_batch"] // size["inlier_batch"]) * joins
    return spread(batches)[1], len(batches) * size["outlier_batch"] + extra


some_outliers = sizes.filter(lambda size: size["num_outliers"] > 0)


@settings(deadline=None)
@given(some_outliers, st.integers(0, 50), st.sampled_from([(0, 1), (0, 2), (1, 2)]))
def test_outliers_in_blocks_follow_the_file_and_begin_again_at_its_end(size, epoch, place):
    outliers, _ = blocks_of(size, epoch, *place)
    first = outliers[0] if outliers else 0
    assert outliers == [(first + step) % size["num_outliers"] for step in range(len(outliers))]


@settings(deadline=None)
@given(some_outliers, st.integers(0, 9), st.booleans())
def test_the_blocks_of_two_processes_stand_one_after_the_other(size, epoch, enough):
    num_outliers = size["num_outliers"] + 10_000 * enough
    (first, wanted), (second, _) = (blocks_of(size | {"num_outliers": num_outliers}, epoch, rank, 2) for rank in (0, 1))
    if first:
        assert second[0] == (first[0] + wanted) % num_outliers
    if enough:
        assert not set(first) & set(second)


@settings(deadline=None)
@given(some_outliers, st.integers(0, 50))
def test_blocks_begin_at_a_place_that_seed_and_epoch_say(size, epoch):
    torch.manual_seed(1)
    first = blocks_of(size, epoch)
    torch.manual_seed(2)
    assert blocks_of(size, epoch) == first


def test_blocks_begin_anywhere_in_the_file():
    size = {"num_inliers": 4, "num_outliers": 1000, "inlier_batch": 2, "outlier_batch": 2}
    starts = [blocks_of(size | {"seed": seed}, epoch)[0][0] for seed in range(4) for epoch in range(100)]
    assert len(set(starts)) > 300  # 400 draws of 1,000: 330 on average, 9 standard deviation
    assert min(starts) < 50
    assert max(starts) >= 950
    quarters = Counter(start // 250 for start in starts)
    assert all(60 < quarters[quarter] < 140 for quarter in range(4))  # 100 on average, 9 standard deviation


@settings(deadline=None)
@given(sizes, st.integers(0, 9), st.integers(0, 1))
def test_blocks_change_nothing_but_the_outliers(size, epoch, rank):
    shuffled, blocks = (epoch_of(size | {"outlier_order": order}, epoch, rank, 2) for order in ("shuffled", "blocks"))
    assert shuffled == epoch_of(size, epoch, rank, 2)
    assert [inliers for inliers, _ in shuffled] == [inliers for inliers, _ in blocks]
    assert [len(outliers) for _, outliers in shuffled] == [len(outliers) for _, outliers in blocks]


def test_shuffled_outliers_are_the_permutations_of_the_epochs_generator():
    size = {"num_inliers": 6, "num_outliers": 5, "inlier_batch": 2, "outlier_batch": 4, "seed": 3}
    draws = generator(3, "order", 2)
    inliers, *rounds = (torch.randperm(count, generator=draws).tolist() for count in (6, 5, 5, 5))
    assert spread(epoch_of(size, epoch=2)) == (inliers, [*rounds[0], *rounds[1], *rounds[2][:2]])
