"""The one LightningDataModule: in-distribution data, outliers and OOD test sets put together, not inherited."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from aloe_lightning.data.augment import random_crop_flip
from aloe_lightning.data.batches import Batch, EpochPlan, TrainingImages
from aloe_lightning.data.source import ImageSet, ImageSource
from aloe_lightning.errors import UserError


class InDistribution(Protocol):
    """In-distribution data: what the net classifies."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def num_classes(self) -> int: ...  # noqa: D102
    @property
    def augment(self) -> bool: ...  # noqa: D102
    def train(self) -> ImageSet: ...  # noqa: D102
    def test(self) -> ImageSet: ...  # noqa: D102


class Loads(Protocol):
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
        outliers: the auxiliary outliers, or None for an objective that has no use for them.
        ood: OOD test sets by name.
        batch: batch sizes.
        seed: of the order of the images.
        num_workers: processes that gather batches; 0 is fastest for data in memory.
    """

    def __init__(
        self,
        inliers: InDistribution,
        outliers: Loads | None,
        ood: Mapping[str, Loads],
        *,
        batch: BatchSizes,
        seed: int,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.inliers, self.outliers, self.ood = inliers, outliers, dict(ood)
        self.batch, self.seed, self.num_workers = batch, seed, num_workers
        self._training: TrainingImages | None = None

    def setup(self, stage: str) -> None:
        """Read the training data once."""
        if stage == "fit" and self._training is None:
            inliers = self.inliers.train()
            if len(inliers) == 0:
                raise UserError(f"{self.inliers.name} has no training images")
            self._training = TrainingImages(inliers, self.outliers.load() if self.outliers is not None else None)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of uint8 images in the order of `EpochPlan`."""
        assert self._training is not None
        plan = EpochPlan(
            len(self._training.inliers),
            0 if self._training.outliers is None else len(self._training.outliers),
            inlier_batch=self.batch.inliers,
            outlier_batch=self.batch.outliers,
            seed=self.seed,
        )
        # batch_size=None: an item of the sampler is a whole batch already. DataLoader types its sampler too narrowly.
        sampler: Any = plan
        return DataLoader(self._training, sampler=sampler, batch_size=None, num_workers=self.num_workers)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment on the device and turn uint8 into float32 in [0, 1]."""
        draws = batch.generator("augmentation")

        def prepared(images: Tensor) -> Tensor:
            if self.inliers.augment:
                images = random_crop_flip(images, generator=draws)
            return images.to(torch.float32).div_(255)

        return batch._replace(inliers=prepared(batch.inliers), outliers=prepared(batch.outliers))

    def test_set(self, limit: int | None = None) -> ImageSet:
        """The in-distribution test images, or `limit` of them drawn by a fixed seed."""
        return self.inliers.test().subset(limit)

    def ood_sets(self, limit: int | None = None) -> dict[str, ImageSet]:
        """The OOD test sets by name, each whole or `limit` images of it drawn by a fixed seed."""
        return {name: _in_memory(source.load()).subset(limit) for name, source in self.ood.items()}


def _in_memory(source: ImageSource) -> ImageSet:
    return source if isinstance(source, ImageSet) else ImageSet(source.take(torch.arange(len(source))))
