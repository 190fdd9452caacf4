"""Images of an evaluation from a tensor, a DataLoader or a folder: read batch by batch, checked, of one size."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler

from aloe_lightning.data import ImageSource
from aloe_lightning.data.images.files import SUFFIXES, is_hidden, pictures_in, read_image
from aloe_lightning.data.images.resized import resized
from aloe_lightning.errors import UserError
from aloe_lightning.robustness.images.pixels import images_and_labels, in_unit_range

Data = Any
"""Images: a tensor (N, 3, H, W), a pair (images, labels), a folder of pictures, or an iterable of batches such as a
`DataLoader`, each batch being images or (images, labels). Floats are in [0, 1], uint8 in 0..255."""


class Batch(NamedTuple):
    """Images float32 (n, 3, H, W) in [0, 1], and classes int64 (n,) or None."""

    images: Tensor
    labels: Tensor | None


class Images(ABC):
    """A set of images that can be read several times in the same order.

    Args:
        name: name of the set in messages and tables.
        size: height and width of the images that are returned; None leaves them unchanged. Of an image of another size
            the short side is resized (bilinear, antialiased) and the centre is cropped.
    """

    decoded: ClassVar[bool] = False
    """True if the images come from picture files, in which values of 0 and 1 alone are possible."""

    def __init__(self, name: str, size: int | None) -> None:
        if size is not None and size < 1:
            raise UserError(f"size is a positive number of pixels (got {size})")
        self.name, self.size = name, size
        self.resized_from: set[tuple[int, int]] = set()

    @abstractmethod
    def raw_batches(self) -> Iterator[Any]:
        """Yield images, or (images, labels), as they are given."""

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches, checked and resized.

        Raises:
            UserError: if a batch holds anything but images in [0, 1].
        """
        for content in self.raw_batches():
            images, labels = images_and_labels(self.name, content)
            yield Batch(self._fitted(in_unit_range(self.name, images, decoded=self.decoded)), labels)

    def sample(self, count: int) -> "Images":
        """Keep `count` images drawn by a fixed seed.

        Raises:
            UserError: if this form of data cannot be sampled.
        """
        raise UserError(f"{self.name}: only folders and named sets can be limited to {count} images")

    @property
    def note(self) -> str:
        """Text that says from which sizes images were resized; "" if none was."""
        if not self.resized_from:
            return ""
        sizes = sorted(self.resized_from)
        listed = ", ".join(f"{width}x{height}" for height, width in sizes[:3]) + (", ..." if len(sizes) > 3 else "")
        return f"{self.name}: resized to {self.size}x{self.size} pixels from {listed}"

    def _fitted(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        if self.size is None or (height, width) == (self.size, self.size):
            return images
        self.resized_from.add((height, width))
        return resized(images, self.size).clamp(0, 1)


class TensorImages(Images):
    """Images in a tensor."""

    def __init__(self, name: str, size: int | None, content: Any, batch_size: int) -> None:
        super().__init__(name, size)
        self.images, self.labels = images_and_labels(name, content)
        self.batch_size = batch_size

    def raw_batches(self) -> Iterator[Any]:
        """Yield consecutive slices."""
        for start in range(0, len(self.images), self.batch_size):
            part = slice(start, start + self.batch_size)
            yield self.images[part] if self.labels is None else (self.images[part], self.labels[part])


class LoadedImages(Images):
    """Batches of a `DataLoader` or of another iterable; larger ones than `batch_size` are split."""

    def __init__(self, name: str, size: int | None, batches: Iterable[Any], batch_size: int) -> None:
        super().__init__(name, size)
        if isinstance(batches, Iterator):
            raise UserError(f"{name}: {type(batches).__name__} can be read only once: give a DataLoader or a tensor")
        if isinstance(batches, DataLoader) and isinstance(batches.sampler, RandomSampler):
            raise UserError(f"{name}: the DataLoader shuffles, but images are read twice: set shuffle=False")
        self.batches, self.batch_size = batches, batch_size

    def raw_batches(self) -> Iterator[Any]:
        """Yield the batches, or their parts."""
        for content in self.batches:
            images, labels = images_and_labels(self.name, content)
            for start in range(0, len(images), self.batch_size):
                part = slice(start, start + self.batch_size)
                yield images[part] if labels is None else (images[part], labels[part])


class SourceImages(Images):
    """Images of an `ImageSource`, such as a named set."""

    decoded: ClassVar[bool] = True

    def __init__(self, name: str, size: int | None, source: ImageSource, batch_size: int) -> None:
        super().__init__(name, size)
        self.source, self.batch_size = source, batch_size
        self.indices = torch.arange(len(source))

    def sample(self, count: int) -> "SourceImages":
        """Keep `count` images drawn by a fixed seed, in their order."""
        self.indices = self.indices[_drawn(len(self.indices), count)]
        return self

    def raw_batches(self) -> Iterator[Any]:
        """Yield the images in the order of the source, with their labels if it has any."""
        for part in torch.split(self.indices, self.batch_size):
            images = self.source.take(part)
            yield images if self.source.labels is None else (images, self.source.labels[part])


class FolderImages(Images):
    """All pictures under a folder; its sub-folders, sorted by name, are the classes, if it has two or more."""

    decoded: ClassVar[bool] = True

    def __init__(self, name: str, size: int | None, path: str | Path, batch_size: int) -> None:
        super().__init__(name, size)
        self.folder, self.batch_size = Path(path).expanduser(), batch_size
        if not self.folder.is_dir():
            raise UserError(f"{name}: no folder of images at {self.folder.absolute()}: correct the path")
        self.files = pictures_in(self.folder)
        if not self.files:
            raise UserError(f"{name}: no images in {self.folder.absolute()}: looked for {', '.join(sorted(SUFFIXES))}")
        places = [file.relative_to(self.folder).parts for file in self.files]
        # A class of the net may have no picture here, and keeps its number.
        names = sorted(entry.name for entry in self.folder.iterdir() if entry.is_dir() and not is_hidden(entry.name))
        self.classes = names if len(names) > 1 and all(len(parts) > 1 for parts in places) else []
        self.labels = [self.classes.index(parts[0]) for parts in places] if self.classes else None

    def raw_batches(self) -> Iterator[Any]:
        """Yield pictures in the order of their paths."""
        for start in range(0, len(self.files), self.batch_size):
            part = slice(start, start + self.batch_size)
            images = self._read(self.files[part])
            yield images if self.labels is None else (images, torch.tensor(self.labels[part]))

    def sample(self, count: int) -> "FolderImages":
        """Keep `count` pictures drawn by a fixed seed, in their order."""
        drawn = _drawn(len(self.files), count).tolist()
        self.files = [self.files[k] for k in drawn]
        self.labels = None if self.labels is None else [self.labels[k] for k in drawn]
        return self

    def _read(self, files: list[Path]) -> Tensor:
        pictures: list[NDArray[np.uint8]] = []
        for file in files:
            pixels = read_image(file, size=self.size)
            if self.size is not None:
                with Image.open(file) as opened:
                    width, height = opened.size
                if (height, width) != (self.size, self.size):
                    self.resized_from.add((height, width))
            if pictures and pixels.shape != pictures[0].shape:
                raise UserError(
                    f"{self.name}: pictures in {self.folder.absolute()} are of several sizes, such as {file.name}: "
                    "give size= (data.size=), the height and width that the net expects"
                )
            pictures.append(pixels)
        return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def _drawn(total: int, count: int) -> Tensor:
    """Return the sorted positions of `count` of `total` images, the same that `ImageSet.subset` draws."""
    return torch.randperm(total, generator=torch.Generator().manual_seed(0))[:count].sort().values


def images_of(name: str, data: Data, size: int | None, batch_size: int) -> Images:
    """Return the images of a set, whatever form it is given in.

    Raises:
        UserError: if the form is none of those of `Data`.
    """
    if isinstance(data, Images):
        return data
    if isinstance(data, str | Path):
        return FolderImages(name, size, data, batch_size)
    is_pair = isinstance(data, tuple) and len(data) == 2 and all(isinstance(part, Tensor) for part in data)
    if isinstance(data, Tensor) or is_pair:
        return TensorImages(name, size, data, batch_size)
    if hasattr(data, "take") and hasattr(data, "order"):
        return SourceImages(name, size, data, batch_size)
    if isinstance(data, np.ndarray):
        raise UserError(f"{name}: give torch.from_numpy(array), shaped (N, 3, H, W), instead of a NumPy array")
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        raise UserError(f"{name}: wrap the {type(data).__name__} in DataLoader(dataset, batch_size=200)")
    if isinstance(data, Iterable):
        return LoadedImages(name, size, data, batch_size)
    raise UserError(f"{name}: {type(data).__name__} is no DataLoader, tensor, (images, labels) or folder")
