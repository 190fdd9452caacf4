"""Where images come from: something with a length that gives uint8 images for an index tensor."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Order = Literal["shuffled", "blocks"]
CHUNK = 8192


class ImageSource(Protocol):
    """Images of 32x32 pixels, in memory or on disk; uint8 until a batch is on the device."""

    @property
    def order(self) -> Order:
        """How an epoch goes through them: image by image at random, or in blocks of the file from a random place."""
        ...

    @property
    def identity(self) -> str | None:
        """What tells these pixels from others without reading them; None where only reading does."""
        ...

    @property
    def labels(self) -> Tensor | None:
        """Classes, int64 (N,); None where there are none, as in outliers, or where they are of no use."""
        ...

    def __len__(self) -> int:
        """Number of images."""
        ...

    def take(self, indices: Tensor) -> Tensor:
        """Indices (n,) -> uint8 images (n, 3, 32, 32)."""
        ...


@dataclass(frozen=True)
class ImageSet:
    """Images in memory.

    Attributes:
        images: uint8 (N, 3, 32, 32).
        labels: int64 (N,), or None where there are no classes.
    """

    images: Tensor
    labels: Tensor | None = None
    order: Order = "shuffled"
    identity: str | None = None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Tensor) -> Tensor:
        """Indices (n,) -> uint8 images (n, 3, 32, 32)."""
        return self.images[indices]

    def pick(self, chosen: Tensor) -> "ImageSet":
        """The images at these indices (n,), with their labels."""
        return ImageSet(self.images[chosen], None if self.labels is None else self.labels[chosen])

    def subset(self, count: int | None, seed: int = 0) -> "ImageSet":
        """`count` images drawn without replacement by a fixed seed, in their old order; all of them if None or more."""
        if count is None or count >= len(self):
            return self
        return self.pick(torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))[:count].sort().values)


@dataclass(frozen=True)
class MappedImages:
    """Images in a memory-mapped array, uint8 (N, 32, 32, 3); only the rows asked for are read.

    Attributes:
        rows: the array.
        labels: int64 (N,), or None where there are no classes.
        identity: of the file.
    """

    rows: NDArray[np.uint8]
    labels: Tensor | None = None
    order: Order = "shuffled"
    identity: str | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: Tensor) -> Tensor:
        """Indices (n,) -> uint8 images (n, 3, 32, 32); reads in file order, returns in the order asked."""
        return channels_first(rows_at(self.rows, indices))


class ExcludingSource:
    """A source that leaves some of its images out, without copying the others.

    Args:
        source: all images.
        left_out: indices not to be seen, in any order.
    """

    def __init__(self, source: ImageSource, left_out: NDArray[np.int64]) -> None:
        self.source = source
        self.left_out = np.unique(left_out)
        # Before the k-th image left out stand `gaps[k]` that are kept, so that kept image i comes after as many
        # left-out ones as there are gaps <= i.
        self.gaps = torch.from_numpy(self.left_out - np.arange(len(self.left_out)))
        if len(self.left_out) and not 0 <= self.left_out[0] <= self.left_out[-1] < len(source):
            raise ValueError(f"indices to leave out must be in 0..{len(source) - 1}")

    @property
    def order(self) -> Order:
        """As of the whole source."""
        return self.source.order

    @property
    def identity(self) -> str | None:
        """Of the whole source and of what is left out."""
        which = hashlib.sha256(self.left_out.tobytes()).hexdigest()[:16]
        return self.source.identity and f"{self.source.identity} without {which}"

    @property
    def labels(self) -> Tensor | None:
        """Of the images that are kept."""
        if self.source.labels is None:
            return None
        kept = torch.ones(len(self.source), dtype=torch.bool)
        kept[torch.from_numpy(self.left_out)] = False
        return self.source.labels[kept]

    def __len__(self) -> int:
        return len(self.source) - len(self.left_out)

    def take(self, indices: Tensor) -> Tensor:
        """Indices (n,) among the kept -> uint8 images (n, 3, 32, 32)."""
        return self.source.take(indices + torch.searchsorted(self.gaps, indices, right=True))


def chunks(source: ImageSource) -> Iterator[Tensor]:
    """All images of a source in order, a few thousand at a time, uint8 (n, 3, 32, 32)."""
    for start in range(0, len(source), CHUNK):
        yield source.take(torch.arange(start, min(start + CHUNK, len(source))))


def rows_at(rows: NDArray[np.uint8], indices: Tensor) -> NDArray[np.uint8]:
    """Rows of a mapped array in the order asked, each read once and in the order of the file."""
    wanted, place = np.unique(indices.numpy(), return_inverse=True)
    found: NDArray[np.uint8] = rows[wanted][place]
    return found


def channels_first(pixels: NDArray[np.uint8] | Sequence[NDArray[np.uint8]]) -> Tensor:
    """uint8 (N, H, W, 3) -> contiguous uint8 tensor (N, 3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(np.asarray(pixels).transpose(0, 3, 1, 2)))
