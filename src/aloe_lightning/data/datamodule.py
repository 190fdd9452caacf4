"""The LightningDataModule: combines in-distribution data, outliers and OOD test sets of any kind."""

from collections.abc import Callable, Mapping, Sequence
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
from aloe_lightning.data.images.duplicates import Duplicates, digest_of, exclude_duplicates, set_hashes
from aloe_lightning.data.images.resized import of_size
from aloe_lightning.data.images.source import ImageSet, ImageSource
from aloe_lightning.errors import UserError
from aloe_lightning.runtime.distributed import share_of
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import PositiveInt
from aloe_lightning.storage.cache import content_hash


class InDistribution(Protocol):
    """In-distribution data, the classes that the net learns."""

    @property
    def num_classes(self) -> int:
        """Number of classes K."""

    @property
    def mean(self) -> Sequence[float]:
        """Channel means in [0, 1], for the net's normalisation."""

    @property
    def std(self) -> Sequence[float]:
        """Channel standard deviations in [0, 1]."""

    @property
    def augment_outliers(self) -> bool:
        """True if outliers are cropped and flipped at random in training."""

    @property
    def split(self) -> str:
        """Name of the images that the evaluation uses: test or validation."""

    def train_set(self) -> ImageSource:
        """Return the training images with labels."""

    def test_set(self) -> ImageSet:
        """Return the in-distribution images of the evaluation with labels."""

    def excluded_from_training(self) -> Mapping[str, ImageSet]:
        """Return further images, besides the test set, that no outlier may equal."""

    def augmented(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Augment a training batch, uint8 (B, 3, 32, 32), on its device."""


class UnlabelledDataset(Protocol):
    """Outliers or an OOD test set."""

    def load(self) -> ImageSource:
        """Return the images."""


@checked
@dataclass(frozen=True, kw_only=True)
class BatchSizes:
    """Images per step, of all processes together.

    Attributes:
        inliers: in-distribution images; 64 in the paper.
        outliers: auxiliary outliers; 128 in the paper.
    """

    inliers: PositiveInt = 64
    outliers: PositiveInt = 128


class RobustOODData(LightningDataModule):
    """(inlier, outlier) batches for training, and the test sets for `evaluate`.

    Args:
        inliers: in-distribution data.
        outliers: auxiliary outliers, or None. Those that are also inliers or in an OOD test set are excluded.
        ood: OOD test sets by name.
        name: label of the in-distribution data in messages.
        batch: batch sizes.
        seed: seed of the order of the images.
        uses_outliers: put outliers into the training batches.
        perceptual_distance: also exclude outliers that look like such an image: see `find_duplicates`.
        num_workers: processes that gather batches; 0 is fastest for data in memory.
    """

    def __init__(
        self,
        inliers: InDistribution,
        outliers: UnlabelledDataset | None,
        ood: Mapping[str, UnlabelledDataset],
        *,
        name: str = "",
        batch: BatchSizes,
        seed: int,
        uses_outliers: bool = True,
        perceptual_distance: int | None = None,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.inliers, self.outliers, self.ood = inliers, outliers, dict(ood)
        self.size: int = getattr(inliers, "size", None) or 32
        self.name = name or "in-distribution data"
        self.batch, self.seed, self.num_workers = batch, seed, num_workers
        self.uses_outliers = uses_outliers and outliers is not None
        self.perceptual_distance = perceptual_distance
        self.duplicates: Duplicates | None = None
        self._choose_outliers: Callable[[Tensor, int], Tensor] | None = None
        self._training: TrainingImages | None = None
        self._sampler: EpochSampler | None = None

    def setup(self, stage: str) -> None:
        """Read the training data once."""
        if stage == "fit" and self._training is None:
            self._training = TrainingImages(self.train_images, self.outlier_images if self.uses_outliers else None)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return batches of uint8 images in the order of `EpochSampler`."""
        assert self._training is not None
        inliers, outliers = self._training.inliers, self._training.outliers
        self._sampler = EpochSampler(
            len(inliers),
            0 if outliers is None else len(outliers),
            inlier_batch=share_of(self.batch.inliers, "inliers"),
            outlier_batch=share_of(self.batch.outliers, "outliers"),
            seed=self.seed,
            outlier_order="shuffled" if outliers is None else outliers.order,
        )
        self._sampler.choose_outliers = self._choose_outliers
        # batch_size=None: an item of the sampler is a whole batch already. DataLoader types its sampler too narrowly.
        sampler: Any = self._sampler
        return DataLoader(self._training, sampler=sampler, batch_size=None, num_workers=self.num_workers)

    def choose_outliers_by(self, choose: Callable[[Tensor, int], Tensor]) -> None:
        """Let a function choose the outliers of each epoch; see `EpochSampler.choose_outliers`."""
        self._choose_outliers = choose
        if self._sampler is not None:  # Lightning asks for the loader before it calls the objective's hooks
            self._sampler.choose_outliers = choose

    def skip_batches(self, count: int) -> None:
        """Skip the first batches of the next epoch when resuming."""
        assert self._sampler is not None
        self._sampler.skip_batches(count)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment on the device and convert uint8 to float32 in [0, 1]."""
        generator = batch.generator("augmentation")
        inliers = self.inliers.augmented(batch.inliers, batch.labels, generator)
        outliers = batch.outliers
        if self.inliers.augment_outliers:
            outliers = random_crop_flip(outliers, generator=generator)
        return batch._replace(inliers=inliers.float().div_(255), outliers=outliers.float().div_(255))

    def test_set(self, limit: int | None = None) -> ImageSet:
        """Return the in-distribution test images, or `limit` of them drawn by a fixed seed."""
        return self._test.subset(limit)

    def ood_sets(self, limit: int | None = None) -> dict[str, ImageSet]:
        """Return the OOD test sets by name, each complete or `limit` images of it drawn by a fixed seed."""
        return {name: _in_memory(source).subset(limit) for name, source in self._ood.items()}

    def sizes(self) -> dict[str, Any]:
        """Return the number of images of each part, for the run's record."""
        training = self._training
        return {
            "train": None if training is None else len(training.inliers),
            self.inliers.split: len(self._test),
            "outliers": None if training is None or training.outliers is None else len(training.outliers),
            "outliers_excluded": None if self.duplicates is None else self.duplicates.count_by_set,
            "ood": {name: len(source) for name, source in self._ood.items()},
        }

    def trained_on(self) -> tuple[str, str]:
        """Return digests of the pixels of the training images and of the outliers ("" if there are none)."""
        assert self._training is not None
        inliers, outliers = self._training.inliers, self._training.outliers
        return digest_of(inliers), "" if outliers is None else digest_of(outliers)

    def digests(self, trained_on: tuple[str, str] | None) -> tuple[str, str]:
        """Return digests of the pixels of all test sets and training images, and of the outliers.

        All numbers of a table must come from the same pixels, whatever names and locations the files have.

        Args:
            trained_on: the result of `trained_on` when the net was trained; None if it is not known.
        """
        tested = [digest_of(self._test), *(f"{name} {digest_of(images)}" for name, images in self._ood.items())]
        if trained_on is None:
            return content_hash(tested)[:8], ""
        return content_hash(tested, trained_on[0])[:8], trained_on[1]

    def overlaps(self) -> dict[str, int]:
        """Return how many in-distribution test images are also training images, or in each OOD test set."""
        others = dict(self._ood) if self._training is None else {"training": self._training.inliers, **self._ood}
        test_hashes = set_hashes(self._test)
        counts = {name: int(np.isin(test_hashes, set_hashes(images)).sum()) for name, images in others.items()}
        return {name: count for name, count in counts.items() if count}

    @cached_property
    def train_images(self) -> ImageSource:
        """The in-distribution training images with labels, not augmented."""
        inliers = self.inliers.train_set()
        if len(inliers) == 0:
            raise UserError(f"{self.name} has no training images")
        return inliers

    @cached_property
    def outlier_images(self) -> ImageSource:
        """The outliers that are in no other set."""
        if self.outliers is None:
            raise UserError("outliers are required but not given: choose outliers=")
        parts = {"training": self.train_images, self.inliers.split: self._test, **self.inliers.excluded_from_training()}
        others = {**{f"{self.name} ({part})": images for part, images in parts.items()}, **self._ood}
        every_outlier = self._sized("outliers", self.outliers)
        outliers, self.duplicates = exclude_duplicates(every_outlier, others, self.perceptual_distance)
        if len(outliers) == 0:
            raise UserError(f"no outliers remain, all are also in other sets: {self.duplicates}")
        return outliers

    @cached_property
    def _test(self) -> ImageSet:
        return self.inliers.test_set()

    @cached_property
    def _ood(self) -> dict[str, ImageSource]:
        return {name: self._sized(name, dataset) for name, dataset in self.ood.items()}

    def _sized(self, name: str, dataset: UnlabelledDataset) -> ImageSource:
        return of_size(dataset.load(), self.size, name)


def _in_memory(source: ImageSource) -> ImageSet:
    return source if isinstance(source, ImageSet) else ImageSet(source.take(torch.arange(len(source))))
