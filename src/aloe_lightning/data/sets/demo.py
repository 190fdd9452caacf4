"""The embedded demo: seeded procedural pictures that require no file and no network (see `demo_pictures`)."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from aloe_lightning.data.augmentation import CropAndFlip
from aloe_lightning.data.images.source import ImageSet
from aloe_lightning.data.sets import demo_pictures
from aloe_lightning.data.sets.demo_pictures import OODKind
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import PositiveInt

TRAIN_SEED, TEST_SEED, OUTLIER_SEED, OOD_SEED = 1, 2, 3, 4


@checked
@dataclass(frozen=True, kw_only=True)
class Demo(CropAndFlip):
    """Ten classes of drawn shapes as in-distribution data.

    Attributes:
        num_train: number of training images.
        num_test: number of test images, drawn from another seed.
        augment_outliers: augment the outliers like training images.
    """

    num_classes: ClassVar[int] = demo_pictures.NUM_CLASSES
    mean: ClassVar[tuple[float, ...]] = (0.40, 0.40, 0.40)
    std: ClassVar[tuple[float, ...]] = (0.145, 0.145, 0.145)

    num_train: PositiveInt = 4000
    num_test: PositiveInt = 400
    augment: bool = False
    augment_outliers: bool = False

    def train_set(self) -> ImageSet:
        """Return the training images with labels."""
        return _labelled(self.num_train, TRAIN_SEED)

    def test_set(self) -> ImageSet:
        """Return the test images with labels."""
        return _labelled(self.num_test, TEST_SEED)


@checked
@dataclass(frozen=True, kw_only=True)
class DemoOutliers:
    """The auxiliary outliers of the demo.

    Attributes:
        count: number of images.
    """

    count: PositiveInt = 8000

    def load(self) -> ImageSet:
        """Return the images."""
        return ImageSet(torch.from_numpy(demo_pictures.outliers(self.count, OUTLIER_SEED)))


@checked
@dataclass(frozen=True, kw_only=True)
class DemoOOD:
    """An OOD test set of the demo, different in kind from its outliers.

    Attributes:
        kind: subject of the pictures.
        count: number of images.
    """

    kind: OODKind
    count: PositiveInt = 200

    def load(self) -> ImageSet:
        """Return the images."""
        return ImageSet(torch.from_numpy(demo_pictures.ood(self.kind, self.count, OOD_SEED)))


def _labelled(count: int, seed: int) -> ImageSet:
    images, labels = demo_pictures.in_distribution(count, seed)
    return ImageSet(torch.from_numpy(images), torch.from_numpy(labels))
