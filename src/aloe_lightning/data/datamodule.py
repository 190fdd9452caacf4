"""The one LightningDataModule: in-distribution data, outliers and OOD test sets put together, not inherited."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from aloe_lightning.data.augmentation import random_crop_flip
from aloe_lightning.data.batches import Batch, EpochSampler, TrainingImages
from aloe_lightning.data.images.duplicates import Duplicates, digest_of, hashes_of, without_duplicates
from aloe_lightning.data.images.source import ImageSet, ImageSource
from aloe_lightning.errors import UserError
from aloe_lightning.storage.cache import fingerprint


class InDistribution(Protocol):
    """In-distribution data: what the net classifies."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def augment_outliers(self) -> bool: ...  # noqa: D102
    @property
    def split(self) -> str: ...  # noqa: D102
    def train_set(self) -> ImageSource: ...  # noqa: D102
    def test_set(self) -> ImageSet: ...  # noqa: D102
    def excluded_from_training(self) -> Mapping[str, ImageSet]: ...  # noqa: D102
    def augmented(self, images: Tensor, labels: Tensor, draws: torch.Generator) -> Tensor: ...  # noqa: D102


class UnlabelledDataset(Protocol):
    """A set without classes."""

    def load(self) -> ImageSource: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True)
class BatchSizes:
    """Images a process takes per step.

    Attributes:
        inliers: 64 in the paper.
        outliers: 128 in the paper.
    """

    inliers: int = 64
    outliers: int = 128


class RobustOODData(LightningDataModule):
    """(inlier, outlier) batches for training; test sets for `evaluate`.

    Args:
        inliers: the in-distribution data.
        outliers: the auxiliary outliers, if there are any. Those that are also among the inliers or in an OOD test set
            are never trained on.
        ood: OOD test sets by name.
        batch: batch sizes.
        seed: of the order of the images.
        uses_outliers: put outliers into the training batches.
        perceptual_distance: leave out outliers that only look like such an image, too: see `find_duplicates`.
        num_workers: processes that gather batches; 0 is fastest for data in memory.
    """

    def __init__(
        self,
        inliers: InDistribution,
        outliers: UnlabelledDataset | None,
        ood: Mapping[str, UnlabelledDataset],
        *,
        batch: BatchSizes,
        seed: int,
        uses_outliers: bool = True,
        perceptual_distance: int | None = None,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.inliers, self.outliers, self.ood = inliers, outliers, dict(ood)
        self.batch, self.seed, self.num_workers = batch, seed, num_workers
        self.uses_outliers = uses_outliers and outliers is not None
        self.perceptual_distance = perceptual_distance
        self.duplicates: Duplicates | None = None
        self._training: TrainingImages | None = None
        self._plan: EpochSampler | None = None

    def setup(self, stage: str) -> None:
        """Read the training data once."""
        if stage != "fit" or self._training is not None:
            return
        self._training = TrainingImages(self.train_images, self.outlier_images if self.uses_outliers else None)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of uint8 images in the order of `EpochSampler`."""
        assert self._training is not None
        inliers, outliers = self._training.inliers, self._training.outliers
        self._plan = EpochSampler(
            len(inliers),
            0 if outliers is None else len(outliers),
            inlier_batch=self.batch.inliers,
            outlier_batch=self.batch.outliers,
            seed=self.seed,
            outlier_order="shuffled" if outliers is None else outliers.order,
        )
        # batch_size=None: an item of the sampler is a whole batch already. DataLoader types its sampler too narrowly.
        sampler: Any = self._plan
        return DataLoader(self._training, sampler=sampler, batch_size=None, num_workers=self.num_workers)

    def skip_batches(self, batches: int) -> None:
        """Leave out the batches of an epoch that a training which goes on has behind it."""
        assert self._plan is not None
        self._plan.skip_batches(batches)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment on the device and turn uint8 into float32 in [0, 1]."""
        draws = batch.generator("augmentation")
        inliers = self.inliers.augmented(batch.inliers, batch.labels, draws)
        outliers = batch.outliers
        if self.inliers.augment_outliers:
            outliers = random_crop_flip(outliers, generator=draws)
        return batch._replace(inliers=_unit(inliers), outliers=_unit(outliers))

    def test_set(self, limit: int | None = None) -> ImageSet:
        """The in-distribution test images, or `limit` of them drawn by a fixed seed."""
        return self._test.subset(limit)

    def ood_sets(self, limit: int | None = None) -> dict[str, ImageSet]:
        """The OOD test sets by name, each whole or `limit` images of it drawn by a fixed seed."""
        return {name: _in_memory(source).subset(limit) for name, source in self._ood.items()}

    def sizes(self) -> dict[str, Any]:
        """How many images each part has, for the run's record."""
        training = self._training
        return {
            "train": None if training is None else len(training.inliers),
            self.inliers.split: len(self._test),
            "outliers": None if training is None or training.outliers is None else len(training.outliers),
            "outliers_left_out": None if self.duplicates is None else self.duplicates.found_in,
            "ood": {name: len(source) for name, source in self._ood.items()},
        }

    def trained_on(self) -> tuple[str, str]:
        """Digests of the pixels of the training images and of the outliers ("" where there are none)."""
        assert self._training is not None
        inliers, outliers = self._training.inliers, self._training.outliers
        return digest_of(inliers), "" if outliers is None else digest_of(outliers)

    def digests(self, trained_on: tuple[str, str] | None) -> tuple[str, str]:
        """Of the pixels of all test sets and the training images, and of the outliers.

        What stands in one table must come from the same pixels, whatever the files are called and wherever they lie.

        Args:
            trained_on: what `trained_on` said when the net was trained; None if that is not known.
        """
        tested = [digest_of(self._test), *(f"{name} {digest_of(images)}" for name, images in self._ood.items())]
        if trained_on is None:
            return fingerprint(tested)[:8], ""
        return fingerprint(tested, trained_on[0])[:8], trained_on[1]

    def overlaps(self) -> dict[str, int]:
        """In-distribution test images that are also elsewhere, by where: training, or an OOD test set."""
        elsewhere = dict(self._ood) if self._training is None else {"training": self._training.inliers, **self._ood}
        mine = hashes_of(self._test)
        counts = {name: int(np.isin(mine, hashes_of(images)).sum()) for name, images in elsewhere.items()}
        return {name: count for name, count in counts.items() if count}

    @cached_property
    def train_images(self) -> ImageSource:
        """The in-distribution training images with labels, not augmented."""
        inliers = self.inliers.train_set()
        if len(inliers) == 0:
            raise UserError(f"{self.inliers.name} has no training images")
        return inliers

    @cached_property
    def outlier_images(self) -> ImageSource:
        """The outliers, without those that are also elsewhere."""
        if self.outliers is None:
            raise UserError("no outliers are given, and something wants to learn from them: choose outliers=")
        apart = {"training": self.train_images, self.inliers.split: self._test, **self.inliers.excluded_from_training()}
        others = {**{f"{self.inliers.name} ({part})": images for part, images in apart.items()}, **self._ood}
        outliers, self.duplicates = without_duplicates(self.outliers.load(), others, self.perceptual_distance)
        if len(outliers) == 0:
            raise UserError(f"no outlier is left: all are also elsewhere: {self.duplicates}")
        return outliers

    @cached_property
    def _test(self) -> ImageSet:
        return self.inliers.test_set()

    @cached_property
    def _ood(self) -> dict[str, ImageSource]:
        return {name: source.load() for name, source in self.ood.items()}


def _unit(images: Tensor) -> Tensor:
    """uint8 -> float32 in [0, 1]."""
    return images.to(torch.float32).div_(255)


def _in_memory(source: ImageSource) -> ImageSet:
    return source if isinstance(source, ImageSet) else ImageSet(source.take(torch.arange(len(source))))
