"""CIFAR-10 and CIFAR-100 in the official Python layout."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from aloe_lightning.data.augmentation import random_crop_flip
from aloe_lightning.data.catalogue import sets as catalogue
from aloe_lightning.data.catalogue.card import Card
from aloe_lightning.data.images.integrity import read_pickle, require_files
from aloe_lightning.data.images.source import ImageSet
from aloe_lightning.errors import UserError


@dataclass(frozen=True)
class _Layout:
    """The official folder: its files with their MD5 sums, which of them train, the key of the labels."""

    card: Card
    labels: str
    train: dict[str, str]
    test: dict[str, str]


LAYOUTS = {
    10: _Layout(
        card=catalogue.CIFAR10,
        labels="labels",
        train={
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        },
        test={"test_batch": "40351d587109b95175f43aff81a1287e"},
    ),
    100: _Layout(
        card=catalogue.CIFAR100,
        labels="fine_labels",
        train={"train": "16019d7e3df5f24257cddd939b257f8d"},
        test={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
    ),
}


@dataclass(frozen=True, kw_only=True)
class CIFAR:
    """CIFAR-10 or CIFAR-100 as in-distribution data, told apart by the number of classes.

    Images: 50,000 for training and 10,000 for testing, of 32x32.
    Classes: 10, or 100 (the fine labels), all equally frequent.
    Split: the official one, in the official order.
    Source: https://www.cs.toronto.edu/~kriz/cifar.html (170 MB each), in `cifar-10-batches-py/`, `cifar-100-python/`.
    Terms: none stated beyond the citation.
    Citation: Krizhevsky: Learning Multiple Layers of Features from Tiny Images, technical report, Toronto 2009.

    Attributes:
        name: as records and folders state it.
        root: the data root, which holds the official folder.
        num_classes: 10 or 100.
        mean: channel means in [0, 1], for the net's normalisation.
        std: channel standard deviations in [0, 1].
        augment: pad-4 random crop and horizontal flip of training images.
        augment_outliers: the same of the outliers beside them.
        verify: compare the files with the official MD5 sums.
    """

    name: str
    root: str
    num_classes: int
    mean: Sequence[float]
    std: Sequence[float]
    augment: bool = True
    augment_outliers: bool = True
    verify: bool = True

    split: ClassVar[str] = "test"

    def train_set(self) -> ImageSet:
        """The training images with labels, in the official order."""
        return self._read(LAYOUTS[self.num_classes].train)

    def test_set(self) -> ImageSet:
        """The test images with labels, in the official order."""
        return self._read(LAYOUTS[self.num_classes].test)

    def excluded_from_training(self) -> dict[str, ImageSet]:
        """What must not be trained on besides the test set: nothing."""
        return {}

    def augmented(self, images: Tensor, labels: Tensor, draws: torch.Generator) -> Tensor:
        """A training batch, uint8 (B, 3, 32, 32), cropped and flipped at random."""
        return random_crop_flip(images, generator=draws) if self.augment else images

    def _read(self, files: dict[str, str]) -> ImageSet:
        layout = LAYOUTS[self.num_classes]
        root = Path(self.root).expanduser().absolute()
        folder = root / layout.card.archives[0].brings[0]
        remedy = f"{layout.card.remedy(root)}, or set data.root"
        require_files(layout.card.title, folder, files, verify=self.verify, remedy=remedy)
        images, labels = [], []
        for file in files:
            batch = read_pickle(folder / file)
            pixels, labelled = batch.get("data"), batch.get(layout.labels)
            plain = labelled.tolist() if isinstance(labelled, np.ndarray) else labelled
            whole = isinstance(plain, list) and all(isinstance(label, int) for label in plain)
            classes = np.array(plain if whole else [], np.int64)
            if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape != (len(classes), 3072):
                raise UserError(f"{(folder / file).absolute()} is no CIFAR batch: wants uint8 rows of 3072 and labels")
            if len(classes) and not 0 <= classes.min() <= classes.max() < self.num_classes:
                raise UserError(f"{(folder / file).absolute()} has labels outside 0..{self.num_classes - 1}")
            images.append(torch.from_numpy(pixels.reshape(-1, 3, 32, 32).copy()))
            labels.append(torch.from_numpy(classes))
        return ImageSet(torch.cat(images), torch.cat(labels))
