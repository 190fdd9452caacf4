"""The data module: which source is read when, and what a training step sees."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from aloe_lightning.data import Batch, BatchSizes, ImageSet, NpyImages, RobustOODData
from aloe_lightning.data.augmentation import random_crop_flip
from aloe_lightning.data.batches import EpochSampler
from aloe_lightning.errors import UserError
from data.fakes import make_npy, noise


def images(count, seed):
    return torch.from_numpy(noise(count, seed)).permute(0, 3, 1, 2).contiguous()


@dataclass
class Inliers:
    num_train: int = 10
    augment: bool = False
    augment_outliers: bool = False
    split: str = "test"
    num_classes: int = 10
    read: list = field(default_factory=list)

    def train_set(self):
        self.read.append("train")
        return ImageSet(images(self.num_train, 1), torch.arange(self.num_train))

    def test_set(self):
        self.read.append("test")
        return ImageSet(images(7, 2), torch.arange(7))

    def excluded_from_training(self):
        return {"validation": ImageSet(images(3, 9))}

    def augmented(self, images, labels, generator):
        return random_crop_flip(images, generator=generator) if self.augment else images


@dataclass
class Others:
    seed: int = 3
    count: int = 30
    read: int = 0

    def load(self):
        self.read += 1
        return ImageSet(images(self.count, self.seed))


def data_of(inliers=None, outliers=None, ood=None, seed=5, name="tiny"):
    inliers = inliers or Inliers()
    return RobustOODData(inliers, outliers, ood or {}, name=name, batch=BatchSizes(inliers=4, outliers=6), seed=seed)


def test_nothing_is_read_before_it_is_asked_for_and_training_data_only_once():
    inliers, outliers = Inliers(), Others()
    data = data_of(inliers, outliers, {"far": Others(seed=4)})
    assert (inliers.read, outliers.read) == ([], 0)
    data.setup("fit")
    data.setup("fit")
    assert (inliers.read, outliers.read) == (["train", "test"], 1)
    data.test_set(limit=3)
    assert inliers.read == ["train", "test"], "the search for duplicates has read the test images already"


def test_batches_are_those_of_the_plan_as_uint8():
    data = data_of(outliers=Others())
    data.setup("fit")
    plan = EpochSampler(10, 30, inlier_batch=4, outlier_batch=6, seed=5)
    loaded = list(data.train_dataloader())
    assert [len(batch.inliers) for batch in loaded] == [4, 4, 2]
    assert [len(batch.outliers) for batch in loaded] == [6, 6, 3]
    for batch, indices in zip(loaded, plan, strict=True):
        assert isinstance(batch, Batch)
        assert batch.inliers.equal(images(10, 1)[indices.inliers])
        assert batch.labels.equal(indices.inliers)
        assert batch.outliers.equal(images(30, 3)[indices.outliers])
        assert batch.seed == indices.seed
        assert batch.inliers.dtype == batch.outliers.dtype == torch.uint8


def test_the_seed_is_the_plans():
    labels = []
    for seed in (5, 5, 6):
        data = data_of(seed=seed)
        data.setup("fit")
        labels.append(torch.cat([batch.labels for batch in data.train_dataloader()]).tolist())
    assert labels[0] == labels[1] != labels[2]


def test_without_outliers_batches_have_none():
    data = data_of()
    data.setup("fit")
    for batch in data.train_dataloader():
        prepared = data.on_after_batch_transfer(batch, 0)
        assert prepared.outliers.shape == (0, 3, 32, 32)
        assert prepared.outliers.dtype == torch.float32


def test_a_step_sees_floats_in_unit_range_and_the_same_labels():
    raw = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(2, 3, 2, 2)
    labels = torch.tensor([7, 3])
    prepared = data_of().on_after_batch_transfer(Batch(raw, labels, raw.flip(3)), 0)
    expected = torch.arange(256).view(1, 1, 16, 16).repeat(2, 3, 2, 2) / 255
    assert prepared.inliers.dtype == torch.float32
    assert prepared.inliers.equal(expected)
    assert prepared.outliers.equal(expected.flip(3))
    assert prepared.labels.equal(labels)
    assert raw.dtype == torch.uint8


def test_inliers_and_outliers_are_augmented_when_the_set_says_so():
    raw = Batch(images(20, 1), torch.arange(20), images(30, 2), seed=9)
    prepared = data_of(Inliers(augment=True, augment_outliers=True)).on_after_batch_transfer(raw, 0)
    draws = raw.generator("augmentation")
    assert prepared.inliers.equal(random_crop_flip(raw.inliers, generator=draws) / 255)
    assert prepared.outliers.equal(random_crop_flip(raw.outliers, generator=draws) / 255)
    assert not prepared.inliers.equal(raw.inliers / 255)


def test_outliers_may_be_augmented_where_inliers_are_not():
    raw = Batch(images(20, 1), torch.arange(20), images(30, 2), seed=9)
    prepared = data_of(Inliers(augment_outliers=True)).on_after_batch_transfer(raw, 0)
    assert prepared.inliers.equal(raw.inliers / 255)
    assert prepared.outliers.equal(random_crop_flip(raw.outliers, generator=raw.generator("augmentation")) / 255)


def test_augmentation_is_a_function_of_the_batchs_seed_alone():
    data = data_of(Inliers(augment=True))
    prepared = []
    for state, seed in ((0, 9), (1, 9), (0, 10)):
        torch.manual_seed(state)
        raw = Batch(images(20, 1), torch.arange(20), images(30, 2), seed)
        prepared.append(data.on_after_batch_transfer(raw, 0))
    assert prepared[0].inliers.equal(prepared[1].inliers)
    assert prepared[0].outliers.equal(prepared[1].outliers)
    assert not prepared[0].inliers.equal(prepared[2].inliers)
    assert prepared[0].seed == 9


def test_a_mapped_file_serves_as_outliers_and_as_test_set(tmp_path):
    make_npy(tmp_path / "o.npy", count=12, seed=8)
    source = NpyImages(path=str(tmp_path / "o.npy"))
    data = data_of(outliers=source)
    data.setup("fit")
    (first, *_) = data.train_dataloader()
    (plan, *_) = EpochSampler(10, 12, inlier_batch=4, outlier_batch=6, seed=5)
    assert first.outliers.equal(images(12, 8)[plan.outliers])
    np.testing.assert_array_equal(data_of(ood={"far": source}).ood_sets()["far"].images, images(12, 8))


def test_test_sets_are_whole_or_a_fixed_sample():
    data = data_of(ood={"near": Others(3), "far": Others(4, count=5)})
    assert data.test_set().images.equal(images(7, 2))
    whole, some = data.ood_sets(), data.ood_sets(limit=6)
    assert {name: len(found) for name, found in whole.items()} == {"near": 30, "far": 5}
    assert {name: len(found) for name, found in some.items()} == {"near": 6, "far": 5}
    assert whole["near"].images.equal(images(30, 3))
    drawn = data.test_set(limit=3)
    assert drawn.images.equal(images(7, 2)[drawn.labels])
    assert drawn.labels.equal(data.test_set(limit=3).labels)
    assert len(drawn.labels.unique()) == 3


def test_a_set_without_training_images_is_told_by_name():
    with pytest.raises(UserError, match="tiny has no training images"):
        data_of(Inliers(num_train=0)).setup("fit")


# --- what is compared with what ---


def test_outliers_are_searched_for_all_that_must_not_be_trained_on():
    kept = [Others(seed=9, count=3), Others(seed=2, count=7), Others(seed=1, count=10)]
    outliers = Others(seed=3, count=5)
    for other, place in zip(kept, ("validation", "test", "training"), strict=True):
        both = ImageSet(torch.cat([outliers.load().images, other.load().images]))
        outliers_with = type("Both", (), {"load": lambda self, both=both: both})()
        data = data_of(outliers=outliers_with)
        data.setup("fit")
        assert data.duplicates.count_by_set == {
            f"tiny ({name})": len(other.load()) if name == place else 0 for name in ("training", "test", "validation")
        }


def test_digests_are_of_the_pixels_and_of_nothing_else():
    def digests(inliers=None, outliers=None, ood=None, name="tiny"):
        data = data_of(inliers, outliers or Others(), {"far": ood or Others(seed=4)}, name=name)
        data.setup("fit")
        return data.digests(data.trained_on())

    pixels, outlier_pixels = digests()
    assert digests(name="other") == (pixels, outlier_pixels)
    assert digests(outliers=Others(seed=5))[0] == pixels
    assert digests(outliers=Others(seed=5))[1] != outlier_pixels
    assert digests(ood=Others(seed=5)) != (pixels, outlier_pixels)
    assert digests(Inliers(num_train=9))[0] != pixels
    unknown = data_of(Inliers(), Others(), {"far": Others(seed=4)}).digests(None)
    assert unknown[0] != pixels
    assert unknown[1] == ""


def test_test_images_that_are_also_trained_on_or_called_ood_are_counted():
    class Careless(Inliers):
        def train_set(self):
            return ImageSet(torch.cat([images(3, 1), self.test_set().images[:2]]), torch.arange(5))

    data = data_of(Careless(), ood={"far": Others(seed=4), "same": Others(seed=2, count=7)})
    data.setup("fit")
    assert data.overlaps() == {"training": 2, "same": 7}
