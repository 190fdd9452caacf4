"""Custom in-distribution data: class folders of pictures, or arrays; classes and normalisation are found in them."""

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from aloe_lightning.data.augmentation import CropAndFlip
from aloe_lightning.data.images.files import SIZE, is_hidden, pictures_in, read_pictures
from aloe_lightning.data.images.integrity import conversion, refuse_cast
from aloe_lightning.data.images.resized import resized
from aloe_lightning.data.images.source import ImageSet, ImageSource, MappedImages, channels_first, chunks
from aloe_lightning.errors import UserError
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import Channels, PositiveInt, Text
from aloe_lightning.storage.cache import cached, content_hash, identity_of, read_cached

log = logging.getLogger(__name__)


class Statistics(NamedTuple):
    """Number of classes, and channel means and standard deviations in [0, 1]."""

    num_classes: int
    mean: Sequence[float]
    std: Sequence[float]


@checked
class CustomDataset(CropAndFlip, ABC):
    """The common part of both forms of custom data.

    Args:
        train: place of the training images.
        test: place of the test images.
        num_classes: required number of classes; null: as many as the training images have.
        mean: channel means in [0, 1]; null: those of the training images.
        std: channel standard deviations in [0, 1]; null: those of the training images.
        augment_outliers: augment the outliers like training images.
        size: height and width that all images are resized to, outliers and OOD sets, too.
    """

    def __init__(
        self,
        *,
        train: Text,
        test: Text,
        num_classes: PositiveInt | None = None,
        mean: Channels | None = None,
        std: Channels | None = None,
        augment: bool = True,
        augment_outliers: bool = True,
        size: PositiveInt = 32,
    ) -> None:
        self.train, self.test, self.size = train, test, size
        self.augment, self.augment_outliers = augment, augment_outliers
        self._given_classes, self._given_mean, self._given_std = num_classes, mean, std

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.statistics.num_classes

    @property
    def mean(self) -> Sequence[float]:
        """Channel means in [0, 1]."""
        return self.statistics.mean

    @property
    def std(self) -> Sequence[float]:
        """Channel standard deviations in [0, 1]."""
        return self.statistics.std

    @abstractmethod
    def train_set(self) -> ImageSource:
        """Return the training images with labels."""

    @abstractmethod
    def test_set(self) -> ImageSet:
        """Return the test images with labels."""

    @cached_property
    def statistics(self) -> Statistics:
        """The given values, and those of the training images for the others; the cache keeps the latter.

        Raises:
            UserError: if the number of classes differs from the given one, or a channel does not vary.
        """
        images = self.train_set()
        assert images.labels is not None
        values = np.unique(images.labels.numpy())
        classes = int(values[-1]) + 1
        if self._given_classes not in (None, classes):
            raise UserError(f"data.num_classes is {self._given_classes}, but {self.train} has {classes} classes")
        if classes < 2:
            raise UserError(f"data.train={self.train} has a single class: a classifier requires two or more")
        if len(values) < classes:
            empty = sorted(set(range(min(classes, len(values) + 5))) - set(values.tolist()))
            gaps = f"{self.train} has no images of the classes {empty[:5]}"
            raise UserError(f"{gaps}: count classes from 0, without gaps")
        mean, std = channel_statistics(images)
        statistics = Statistics(classes, list(self._given_mean or mean), list(self._given_std or std))
        if min(statistics.std) == 0:
            raise UserError(f"a colour channel of {self.train} is the same in every pixel: set data.mean and data.std")
        size = f"{self.size}x{self.size}"
        log.info("%s: %d images of %d classes at %s pixels (data.size)", self.train, len(images), classes, size)
        return statistics


class LabelledFolder(CustomDataset):
    """A folder for training and one for testing, each with one sub-folder of pictures for each class.

    Pictures may have any size and be at any depth below their class's folder: the short side is resized to `size` and
    the picture is centre-cropped. Classes are the sub-folders' names in sorted order; testing may lack some of them.
    """

    def train_set(self) -> MappedImages:
        """Return the training images with labels, ordered by class; decoded once, then read from the cache."""
        return self._read("data.train", self.train)

    def test_set(self) -> ImageSet:
        """Return the test images with labels, ordered by class."""
        images = self._read("data.test", self.test)
        return ImageSet(channels_first(images.rows), images.labels)

    def _read(self, key: str, path: str) -> MappedImages:
        classes = sub_folders(self.train, "data.train")
        unknown = sorted(set(sub_folders(path, key)) - set(classes))
        if unknown:
            raise UserError(
                f"{key}: {', '.join(unknown)} in {path} are no classes of data.train={self.train}; "
                f"images of other classes are OOD: +ood.{unknown[0]}={Path(path) / unknown[0]}"
            )
        folder = Path(path).expanduser().absolute()
        files_by_class = [pictures_in(folder / name) if (folder / name).is_dir() else [] for name in classes]
        files = [file for members in files_by_class for file in members]
        empty = [name for name, members in zip(classes, files_by_class, strict=True) if not members]
        if not files or (empty and key == "data.train"):
            raise UserError(f"{key}: no images in {', '.join(str(folder / name) for name in empty[:3])}")
        labels = np.repeat(np.arange(len(classes)), [len(members) for members in files_by_class])
        return replace(read_pictures(files, folder, size=self.size), labels=torch.from_numpy(labels))


class LabelledArrays(CustomDataset):
    """An `.npz` file for training and one for testing, each with the arrays `images` and `labels`.

    `images` are uint8 (N, H, W, 3) of any size (the short side is resized to `size`, then centre-cropped), `labels`
    whole numbers (N,) from 0.
    """

    def train_set(self) -> ImageSet:
        """Return the training images with labels, in the order of the file."""
        return self._training

    def test_set(self) -> ImageSet:
        """Return the test images with labels, in the order of the file."""
        images, classes = read_arrays(Path(self.test).expanduser().absolute(), self.size), self._training.labels
        assert images.labels is not None
        assert classes is not None
        if images.labels.max() > classes.max():
            raise UserError(f"data.test={self.test} has class {int(images.labels.max())}, which data.train has not")
        return images

    @cached_property
    def _training(self) -> ImageSet:
        return read_arrays(Path(self.train).expanduser().absolute(), self.size)


def sub_folders(path: str, key: str) -> list[str]:
    """Return the sorted names of the folders in a folder, or raise a UserError if there are none."""
    folder = Path(path).expanduser().absolute()
    if not folder.is_dir():
        raise UserError(f"{key}: no folder at {folder}")
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not is_hidden(entry.name))
    except OSError as error:
        raise UserError(f"{key}: cannot read {folder} ({error.strerror})") from error
    if not names:
        raise UserError(f"{key}: {folder} has no sub-folders: put the pictures of each class into a separate folder")
    return names


def read_arrays(file: Path, size: int = SIZE) -> ImageSet:
    """Read an `.npz` of images, resized, and labels, or raise a UserError if it is missing, damaged or another."""
    if not file.is_file():
        raise UserError(f"no arrays at {file}: correct data.train and data.test")
    try:
        with np.load(file, allow_pickle=False) as arrays:
            if missing := [name for name in ("images", "labels") if name not in arrays]:
                raise ValueError(f"it has {', '.join(arrays)}, not {' and '.join(missing)}")
            content: dict[str, NDArray[np.generic]] = {name: arrays[name] for name in ("images", "labels")}
    except Exception as error:  # a damaged archive raises nearly anything
        raise UserError(f"cannot read {file}: it must have the arrays `images` and `labels` ({error})") from error
    pixels, labels = content["images"], content["labels"]
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3 or not pixels.size:
        raise UserError(
            f"{file}: images are {pixels.dtype} {pixels.shape}; they must be uint8 (N, H, W, 3)" + conversion(pixels)
        )
    refuse_cast(pixels.astype(np.uint8, copy=False), file)
    if labels.ndim == 1 and len(labels) != len(pixels):
        raise UserError(f"{file}: {len(pixels)} images, but {len(labels)} labels")
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != (len(pixels),):
        raise UserError(f"{file}: labels are {labels.dtype} {labels.shape}; they must be whole numbers from 0, (N,)")
    if not 0 <= int(labels.min()) <= int(labels.max()) < 2**31:
        values = f"{int(labels.min())}..{int(labels.max())}"
        raise UserError(f"{file}: labels are in {values}; they must be whole numbers from 0, (N,)")
    images = channels_first(pixels.astype(np.uint8, copy=False))
    identity = identity_of([file], file.parent) if images.shape[2:] == (size, size) else None
    if identity is None:
        log.info("%s: images resized from %dx%d to %dx%d", file, images.shape[3], images.shape[2], size, size)
        images = resized(images, size)
    return ImageSet(images, torch.from_numpy(labels.astype(np.int64)), identity=identity)


def channel_statistics(images: ImageSource) -> tuple[list[float], list[float]]:
    """Return channel means and standard deviations of all pixels in [0, 1]; the cache keeps them."""
    if images.identity is None:  # an array of another image size: it is resized on every run, in memory
        return _measured_statistics(images)

    def make(part: Path) -> None:
        part.write_text(json.dumps(_measured_statistics(images)))

    name = f"statistics/{content_hash('channels', images.identity)}.json"

    def read(file: Path) -> tuple[list[float], list[float]]:
        mean, std = np.array(json.loads(file.read_text()), np.float64).reshape(2, 3).tolist()
        return mean, std

    return read_cached(cached(name, make), read)


def _measured_statistics(images: ImageSource) -> tuple[list[float], list[float]]:
    totals = torch.zeros(2, 3, dtype=torch.float64)
    count = 0
    for part in chunks(images):
        count += part[:, 0].numel()
        # Sums of whole numbers are exact for any chunks.
        values = part.to(torch.int64).transpose(0, 1).flatten(1)
        totals += torch.stack([values.sum(1), (values * values).sum(1)])
    mean = totals[0] / count
    variance = (totals[1] / count - mean**2).clamp(min=0)
    return (mean / 255).tolist(), (variance.sqrt() / 255).tolist()
