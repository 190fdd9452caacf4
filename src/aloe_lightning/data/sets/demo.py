"""The embedded demo set: seeded procedural pictures that need no file and no network (see `demo_pictures`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from aloe_lightning.data.augmentation import random_crop_flip
from aloe_lightning.data.images.source import ImageSet
from aloe_lightning.data.sets import demo_pictures

TRAIN_SEED, TEST_SEED, OUTLIER_SEED, OOD_SEED = 1, 2, 3, 4


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Ten classes of drawn shapes as in-distribution data.

    Attributes:
        name: as records and folders state it.
        num_classes: 10.
        mean: channel means in [0, 1], for the net's normalisation.
        std: channel standard deviations in [0, 1].
        num_train: training images.
        num_test: test images, drawn from another seed.
        augment: pad-4 random crop and horizontal flip of training images.
        augment_outliers: the same of the outliers beside them.
    """

    name: str
    num_classes: int
    mean: Sequence[float]
    std: Sequence[float]
    num_train: int
    num_test: int
    augment: bool = False
    augment_outliers: bool = False

    split: ClassVar[str] = "test"

    def train_set(self) -> ImageSet:
        """Training images with labels."""
        images, labels = demo_pictures.in_distribution(self.num_train, TRAIN_SEED)
        return ImageSet(torch.from_numpy(images), torch.from_numpy(labels))

    def test_set(self) -> ImageSet:
        """Test images with labels."""
        images, labels = demo_pictures.in_distribution(self.num_test, TEST_SEED)
        return ImageSet(torch.from_numpy(images), torch.from_numpy(labels))

    def excluded_from_training(self) -> dict[str, ImageSet]:
        """What must not be trained on besides the test set: nothing."""
        return {}

    def augmented(self, images: Tensor, labels: Tensor, draws: torch.Generator) -> Tensor:
        """A training batch, uint8 (B, 3, 32, 32), cropped and flipped at random if asked for."""
        return random_crop_flip(images, generator=draws) if self.augment else images


@dataclass(frozen=True, kw_only=True)
class DemoOutliers:
    """The auxiliary outliers of the demo.

    Attributes:
        count: number of images.
    """

    count: int

    def load(self) -> ImageSet:
        """Draw them."""
        return ImageSet(torch.from_numpy(demo_pictures.outliers(self.count, OUTLIER_SEED)))


@dataclass(frozen=True, kw_only=True)
class DemoOOD:
    """An OOD test set of the demo, different in kind from its outliers.

    Attributes:
        kind: one of `demo_pictures.OOD_KINDS`.
        count: number of images.
    """

    kind: str
    count: int

    def load(self) -> ImageSet:
        """Draw them."""
        return ImageSet(torch.from_numpy(demo_pictures.ood(self.kind, self.count, OOD_SEED)))
