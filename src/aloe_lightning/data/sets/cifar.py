"""CIFAR-10 and CIFAR-100 in the official Python layout."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from aloe_lightning.data.augmentation import CropAndFlip
from aloe_lightning.data.images.integrity import read_pickle
from aloe_lightning.data.images.source import ImageSet
from aloe_lightning.data.sets.named import NamedInDistribution, NamedUnlabelledSet, Splits, checked_labels
from aloe_lightning.errors import UserError
from aloe_lightning.signatures.checked import checked


@checked
@dataclass(frozen=True, kw_only=True)
class CIFAR(NamedInDistribution, CropAndFlip):
    """The common part of CIFAR-10 and CIFAR-100 as in-distribution data.

    Attributes:
        augment_outliers: augment the outliers like training images.
    """

    label_key: ClassVar[str]

    augment: bool = True
    augment_outliers: bool = True

    def train_set(self) -> ImageSet:
        """Return the training images with labels, in the official order."""
        return self._read("train")

    def test_set(self) -> ImageSet:
        """Return the test images with labels, in the official order."""
        return self._read("test")

    def splits(self) -> Splits:
        """Return the functions that read the splits."""
        return {"train": self.train_set, "test": self.test_set}

    def _read(self, split: str) -> ImageSet:
        images, labels = [], []
        for file in self.verified_files(split):
            batch = read_pickle(file)
            pixels, classes = batch.get("data"), checked_labels(batch.get(self.label_key), self.num_classes, file)
            if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape != (len(classes), 3072):
                raise UserError(f"{file} is no CIFAR batch: it must have uint8 rows of 3072 and labels")
            images.append(torch.from_numpy(pixels.reshape(-1, 3, 32, 32).copy()))
            labels.append(classes)
        return ImageSet(torch.cat(images), torch.cat(labels))


class CIFAR10(CIFAR):
    """CIFAR-10 as in-distribution data."""

    dataset: ClassVar[str] = "cifar10"
    label_key: ClassVar[str] = "labels"


class CIFAR100(CIFAR):
    """CIFAR-100 as in-distribution data, with its fine labels."""

    dataset: ClassVar[str] = "cifar100"
    label_key: ClassVar[str] = "fine_labels"


class CIFAR10Test(NamedUnlabelledSet):
    """The test images of CIFAR-10 as an OOD test set."""

    dataset: ClassVar[str] = "cifar10"
    inliers: ClassVar[type[CIFAR]] = CIFAR10

    def load(self) -> ImageSet:
        """Return the test images with labels, in the official order."""
        return self.inliers(root=self.root, verify=self.verify).test_set()


class CIFAR100Test(CIFAR10Test):
    """The test images of CIFAR-100 as an OOD test set."""

    dataset: ClassVar[str] = "cifar100"
    inliers: ClassVar[type[CIFAR]] = CIFAR100
