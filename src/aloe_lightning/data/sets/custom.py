"""Anybody's own in-distribution data: class folders of pictures, or arrays; what can be found is not asked for."""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.functional import center_crop, resize

from aloe_lightning.data.augmentation import random_crop_flip
from aloe_lightning.data.images.files import SIZE, pictures_in, read_pictures
from aloe_lightning.data.images.source import ImageSet, ImageSource, MappedImages, channels_first, chunks
from aloe_lightning.errors import UserError
from aloe_lightning.storage.cache import cached, fingerprint, identity_of


class Statistics(NamedTuple):
    """Of training images: number of classes, channel means and standard deviations in [0, 1]."""

    num_classes: int
    mean: list[float]
    std: list[float]


@dataclass(frozen=True, kw_only=True)
class CustomDataset(ABC):
    """What both forms of own data have in common.

    Attributes:
        train: where the training images are.
        test: where the test images are.
        name: as records and folders state it.
        num_classes: found if None; if given, checked.
        mean: channel means in [0, 1]; None: those of the training images.
        std: channel standard deviations in [0, 1]; None: those of the training images.
        augment: pad-4 random crop and horizontal flip of training images.
        augment_outliers: the same of the outliers beside them.
        root: the data root, for named sets that stand beside one's own.
        verify: of these sets: hold them to the published sums and counts.
    """

    split: ClassVar[str] = "test"

    train: str
    test: str
    name: str
    num_classes: int | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    augment: bool = True
    augment_outliers: bool = True
    root: str = "data"
    verify: bool = True

    @abstractmethod
    def train_set(self) -> ImageSource:
        """The training images with labels."""

    @abstractmethod
    def test_set(self) -> ImageSet:
        """The test images with labels."""

    def excluded_from_training(self) -> dict[str, ImageSet]:
        """What must not be trained on besides the test set: nothing."""
        return {}

    def augmented(self, images: Tensor, labels: Tensor, draws: torch.Generator) -> Tensor:
        """A training batch, uint8 (B, 3, 32, 32), cropped and flipped at random."""
        return random_crop_flip(images, generator=draws) if self.augment else images

    def statistics(self) -> Statistics:
        """What is given, and for what is not, what the training images say; that is computed once and cached.

        Raises:
            UserError: if another number of classes is found than given, or a channel does not vary.
        """
        images = self.train_set()
        assert images.labels is not None
        classes = int(images.labels.max()) + 1
        if self.num_classes not in (None, classes):
            raise UserError(f"data.num_classes is {self.num_classes}, but {self.train} has {classes} classes")
        if classes < 2:
            raise UserError(f"data.train={self.train} has a single class: a classifier wants two or more")
        empty = sorted(set(range(classes)) - set(images.labels.tolist()))
        if empty:
            raise UserError(
                f"{self.train} has no images of the classes {empty[:5]}: count classes from 0, without gaps"
            )

        def measure(part: Path) -> None:
            part.write_text(json.dumps(channel_statistics(images)))

        # An array of one's own in another size has no identity: its pixels are made anew each time, in memory.
        if images.identity is None:
            mean, std = channel_statistics(images)
        else:
            name = f"statistics/{fingerprint('channels', images.identity)}.json"
            mean, std = json.loads(cached(name, measure).read_text())
        found = Statistics(classes, list(self.mean or mean), list(self.std or std))
        if min(found.std) == 0:
            raise UserError(f"a colour channel of {self.train} is the same in every pixel: set data.mean and data.std")
        return found


class LabelledFolder(CustomDataset):
    """A folder for training and one for testing, each with one sub-folder of pictures for each class.

    Pictures may have any size and lie at any depth below their class's folder: the short side is resized to 32 and the
    middle cropped. Classes are the sub-folders' names in sorted order; testing may lack some of them.
    """

    def train_set(self) -> MappedImages:
        """The training images with labels, class after class; decoded once, then from the cache."""
        return self._read("data.train", self.train)

    def test_set(self) -> ImageSet:
        """The test images with labels, class after class."""
        images = self._read("data.test", self.test)
        return ImageSet(channels_first(images.rows), images.labels)

    def classes(self) -> list[str]:
        """Names of the classes: the sub-folders of the training folder."""
        return sub_folders(self.train, "data.train")

    def _read(self, key: str, path: str) -> MappedImages:
        classes = self.classes()
        unknown = sorted(set(sub_folders(path, key)) - set(classes))
        if unknown:
            raise UserError(
                f"{key}: {', '.join(unknown)} in {path} are no classes of data.train={self.train}; "
                f"images of other classes are OOD: +ood.{unknown[0]}={Path(path) / unknown[0]}"
            )
        folder = Path(path).expanduser().absolute()
        of_class = [pictures_in(folder / name) if (folder / name).is_dir() else [] for name in classes]
        files = [file for members in of_class for file in members]
        empty = [name for name, members in zip(classes, of_class, strict=True) if not members]
        if not files or (empty and key == "data.train"):
            raise UserError(f"{key}: no images in {', '.join(str(folder / name) for name in empty[:3])}")
        labels = np.repeat(np.arange(len(classes)), [len(members) for members in of_class])
        images = read_pictures(files, folder)
        return MappedImages(images.rows, labels=torch.from_numpy(labels), identity=images.identity)


class LabelledArrays(CustomDataset):
    """An `.npz` for training and one for testing, each with `images` and `labels`.

    `images` are uint8 (N, H, W, 3) of any size (the short side is resized to 32 and the middle cropped), `labels` whole
    numbers (N,) from 0.
    """

    def train_set(self) -> ImageSet:
        """The training images with labels, in the order of the file."""
        return self._training

    def test_set(self) -> ImageSet:
        """The test images with labels, in the order of the file."""
        images, classes = read_arrays(Path(self.test).expanduser().absolute()), self._training.labels
        assert images.labels is not None
        assert classes is not None
        if images.labels.max() > classes.max():
            raise UserError(f"data.test={self.test} has class {int(images.labels.max())}, which data.train has not")
        return images

    @cached_property
    def _training(self) -> ImageSet:
        return read_arrays(Path(self.train).expanduser().absolute())


def sub_folders(path: str, key: str) -> list[str]:
    """Names of the folders in a folder, sorted, hidden ones left out.

    Raises:
        UserError: if there are none.
    """
    folder = Path(path).expanduser().absolute()
    if not folder.is_dir():
        raise UserError(f"{key}: no folder at {folder}")
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise UserError(f"{key}: cannot read {folder} ({error.strerror})") from error
    if not names:
        raise UserError(f"{key}: {folder} has no sub-folders: put the pictures of each class into a folder of its own")
    return names


def read_arrays(file: Path) -> ImageSet:
    """Images and labels of an `.npz`.

    Raises:
        UserError: if it is missing, damaged, or holds other things.
    """
    if not file.is_file():
        raise UserError(f"no arrays at {file}: correct data.train and data.test")
    try:
        with np.load(file, allow_pickle=False) as arrays:
            content: dict[str, NDArray[np.generic]] = {name: arrays[name] for name in ("images", "labels")}
    except Exception as error:  # a damaged archive raises nearly anything
        raise UserError(f"cannot read {file}: wants the arrays `images` and `labels` ({error})") from error
    pixels, labels = content["images"], content["labels"]
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3 or not pixels.size:
        raise UserError(f"{file}: images are {pixels.dtype} {pixels.shape}; they must be uint8 (N, H, W, 3)")
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != (len(pixels),) or int(labels.min()) < 0:
        raise UserError(f"{file}: labels are {labels.dtype} {labels.shape}; wanted: a whole number from 0 per image")
    images = channels_first(pixels.astype(np.uint8, copy=False))
    if images.shape[2:] != (SIZE, SIZE):
        images = center_crop(resize(images, [SIZE], antialias=True), [SIZE, SIZE])
        identity = None
    else:
        identity = identity_of([file], file.parent)
    return ImageSet(images, torch.from_numpy(labels.astype(np.int64)), identity=identity)


def channel_statistics(images: ImageSource) -> tuple[list[float], list[float]]:
    """Channel means and standard deviations of all pixels in [0, 1]."""
    totals = torch.zeros(2, 3, dtype=torch.float64)
    for part in chunks(images):
        # Sums of whole numbers are exact whatever the chunks.
        values = part.to(torch.int64).transpose(0, 1).flatten(1)
        totals += torch.stack([values.sum(1), (values * values).sum(1)])
    count = len(images) * SIZE * SIZE
    mean = totals[0] / count
    variance = (totals[1] / count - mean**2).clamp(min=0)
    return (mean / 255).tolist(), (variance.sqrt() / 255).tolist()
