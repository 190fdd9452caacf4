"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009) in the official Python layout.

CIFAR-10: 50,000 training and 10,000 test images of 10 classes in `cifar-10-batches-py/`; CIFAR-100: as many of 100
classes in `cifar-100-python/`. Source: https://www.cs.toronto.edu/~kriz/cifar.html, free for research.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from aloe_lightning.data.integrity import read_pickle, require_files
from aloe_lightning.data.source import ImageSet
from aloe_lightning.errors import UserError


@dataclass(frozen=True)
class _Layout:
    """The official archive: its folder, its files with their MD5 sums, which of them train, the key of the labels."""

    folder: str
    archive: str
    labels: bytes
    train: dict[str, str]
    test: dict[str, str]


LAYOUTS = {
    10: _Layout(
        folder="cifar-10-batches-py",
        archive="cifar-10-python.tar.gz",
        labels=b"labels",
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
        folder="cifar-100-python",
        archive="cifar-100-python.tar.gz",
        labels=b"fine_labels",
        train={"train": "16019d7e3df5f24257cddd939b257f8d"},
        test={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
    ),
}


@dataclass(frozen=True, kw_only=True)
class CIFAR:
    """CIFAR-10 or CIFAR-100 as in-distribution data, told apart by the number of classes.

    Attributes:
        name: as records and folders state it.
        root: folder that holds the official folder.
        num_classes: 10 or 100.
        mean: channel means in [0, 1], for the net's normalisation.
        std: channel standard deviations in [0, 1].
        augment: pad-4 random crop and horizontal flip of training inliers and outliers.
        verify: compare the files with the official MD5 sums.
    """

    name: str
    root: str
    num_classes: int
    mean: Sequence[float]
    std: Sequence[float]
    augment: bool = True
    verify: bool = True

    def train(self) -> ImageSet:
        """The training images with labels, in the official order."""
        return self._read(LAYOUTS[self.num_classes].train)

    def test(self) -> ImageSet:
        """The test images with labels, in the official order."""
        return self._read(LAYOUTS[self.num_classes].test)

    def _read(self, files: dict[str, str]) -> ImageSet:
        layout = LAYOUTS[self.num_classes]
        root = Path(self.root).expanduser().absolute()
        folder = root / layout.folder
        remedy = f"unpack the official {layout.archive} in {root}, or set data.root"
        require_files(f"CIFAR-{self.num_classes}", folder, files, verify=self.verify, remedy=remedy)
        images, labels = [], []
        for file in files:
            batch = read_pickle(folder / file)
            pixels, labelled = batch.get(b"data"), batch.get(layout.labels)
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
