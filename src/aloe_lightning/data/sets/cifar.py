"""CIFAR-10 and CIFAR-100 in the official Python layout."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from aloe_lightning.data.augmentation import random_crop_flip
from aloe_lightning.data.images.integrity import read_pickle
from aloe_lightning.data.images.source import ImageSet
from aloe_lightning.data.sets.named import NamedInDistribution, NamedUnlabelledSet, Splits
from aloe_lightning.errors import UserError
from aloe_lightning.signatures.checked import checked


@checked
@dataclass(frozen=True, kw_only=True)
class CIFAR(NamedInDistribution):
    """The common part of CIFAR-10 and CIFAR-100 as in-distribution data.

    Attributes:
        augment: pad training images by 4 pixels, crop them at random and flip them at random.
        augment_outliers: augment the outliers in the same way.
    """

    label_key: ClassVar[str]
    split: ClassVar[str] = "test"

    augment: bool = True
    augment_outliers: bool = True

    def train_set(self) -> ImageSet:
        """Return the training images with labels, in the official order."""
        return self._read("train")

    def test_set(self) -> ImageSet:
        """Return the test images with labels, in the official order."""
        return self._read("test")

    def excluded_from_training(self) -> dict[str, ImageSet]:
        """Return no images: the test set is excluded anyway."""
        return {}

    def augmented(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Return a training batch, uint8 (B, 3, 32, 32), cropped and flipped at random."""
        return random_crop_flip(images, generator=generator) if self.augment else images

    def splits(self) -> Splits:
        """Return the functions that read the splits."""
        return {"train": self.train_set, "test": self.test_set}

    def _read(self, split: str) -> ImageSet:
        images, labels = [], []
        for file in self.verified_files(split):
            batch = read_pickle(file)
            pixels, values = batch.get("data"), batch.get(self.label_key)
            plain = values.tolist() if isinstance(values, np.ndarray) else values
            valid = isinstance(plain, list) and all(isinstance(label, int) for label in plain)
            classes = np.array(plain if valid else [], np.int64)
            if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape != (len(classes), 3072):
                raise UserError(f"{file} is no CIFAR batch: it must have uint8 rows of 3072 and labels")
            if len(classes) and not 0 <= classes.min() <= classes.max() < self.num_classes:
                raise UserError(f"{file} has labels outside 0..{self.num_classes - 1}")
            images.append(torch.from_numpy(pixels.reshape(-1, 3, 32, 32).copy()))
            labels.append(torch.from_numpy(classes))
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

    def load(self) -> ImageSet:
        """Return the test images with labels, in the official order."""
        return CIFAR10(root=self.root, verify=self.verify).test_set()


class CIFAR100Test(NamedUnlabelledSet):
    """The test images of CIFAR-100 as an OOD test set."""

    dataset: ClassVar[str] = "cifar100"

    def load(self) -> ImageSet:
        """Return the test images with labels, in the official order."""
        return CIFAR100(root=self.root, verify=self.verify).test_set()
