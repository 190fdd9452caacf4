"""Image sources: objects with a length that return uint8 images for an index tensor."""

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
"""Number of images of 32x32 pixels that are read together; of larger ones, as many as have as many pixels."""


class ImageSource(Protocol):
    """Images of one size, 32x32 pixels by default, in memory or on disk; uint8 until a batch is on the device."""

    @property
    def order(self) -> Order:
        """Order of an epoch: images at random, or a contiguous block of the file from a random position."""

    @property
    def identity(self) -> str | None:
        """Text that identifies the pixels without reading them; None if only reading them does."""

    @property
    def labels(self) -> Tensor | None:
        """Classes, int64 (N,); None if there are none, as for outliers, or if they are of no use."""

    def __len__(self) -> int:
        """Return the number of images."""

    def take(self, indices: Tensor) -> Tensor:
        """Return the images at indices (n,), uint8 (n, 3, H, W)."""


@dataclass(frozen=True)
class ImageSet:
    """Images in memory.

    Attributes:
        images: uint8 (N, 3, H, W).
        labels: classes, int64 (N,); None if unknown.
        order: see `ImageSource`.
        identity: see `ImageSource`.
    """

    images: Tensor
    labels: Tensor | None = None
    order: Order = "shuffled"
    identity: str | None = None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Tensor) -> Tensor:
        """Return the images at indices (n,), uint8 (n, 3, H, W)."""
        return self.images[indices]

    def pick(self, indices: Tensor) -> "ImageSet":
        """Return the images at indices (n,) with their labels."""
        return ImageSet(self.images[indices], None if self.labels is None else self.labels[indices])

    def subset(self, count: int | None, seed: int = 0) -> "ImageSet":
        """Return `count` images drawn without replacement by a fixed seed, in their order; all if None or too many."""
        if count is None or count >= len(self):
            return self
        return self.pick(torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))[:count].sort().values)


@dataclass(frozen=True)
class MappedImages:
    """Images in a memory-mapped array, uint8 (N, H, W, 3); only the requested rows are read.

    Attributes:
        rows: the array.
        labels: classes, int64 (N,); None if unknown.
        order: see `ImageSource`.
        identity: see `ImageSource`.
    """

    rows: NDArray[np.uint8]
    labels: Tensor | None = None
    order: Order = "shuffled"
    identity: str | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: Tensor) -> Tensor:
        """Return the images at indices (n,), uint8 (n, 3, H, W); the file is read in its own order."""
        return channels_first(rows_at(self.rows, indices))


class ExcludingSource:
    """A source that hides some images of another one, without copying the remaining images.

    Args:
        source: all images.
        excluded: indices to hide, in any order.
    """

    def __init__(self, source: ImageSource, excluded: NDArray[np.int64]) -> None:
        self.excluded = np.unique(excluded)
        if len(self.excluded) and not 0 <= self.excluded[0] <= self.excluded[-1] < len(source):
            raise ValueError(f"excluded indices must be in 0..{len(source) - 1}")
        # So many images remain before the k-th excluded one: image i follows as many excluded ones as entries are <= i.
        self.remaining_before = torch.from_numpy(self.excluded - np.arange(len(self.excluded)))
        self.source, self.order = source, source.order
        excluded_hash = hashlib.sha256(self.excluded.tobytes()).hexdigest()[:16]
        self.identity = source.identity and f"{source.identity} without {excluded_hash}"
        labels = source.labels
        self.labels = None if labels is None else torch.from_numpy(np.delete(labels.numpy(), self.excluded))

    def __len__(self) -> int:
        return len(self.source) - len(self.excluded)

    def take(self, indices: Tensor) -> Tensor:
        """Return the images at indices (n,) among the remaining ones, uint8 (n, 3, H, W)."""
        return self.source.take(indices + torch.searchsorted(self.remaining_before, indices, right=True))


def chunks(source: ImageSource) -> Iterator[Tensor]:
    """Yield all images of a source in order, `CHUNK` at a time, uint8 (n, 3, H, W)."""
    pixels = source.take(torch.zeros(1, dtype=torch.int64))[0, 0].numel() if len(source) else 1
    count = max(1, min(CHUNK, CHUNK * 32 * 32 // pixels))
    for start in range(0, len(source), count):
        yield source.take(torch.arange(start, min(start + count, len(source))))


def rows_at(rows: NDArray[np.uint8], indices: Tensor) -> NDArray[np.uint8]:
    """Return rows of a mapped array in the order of the indices; each is read once, in the order of the file."""
    unique_indices, positions = np.unique(indices.numpy(), return_inverse=True)
    selected: NDArray[np.uint8] = rows[unique_indices][positions]
    return selected


def channels_first(pixels: NDArray[np.uint8] | Sequence[NDArray[np.uint8]]) -> Tensor:
    """Convert uint8 (N, H, W, 3) to a contiguous uint8 tensor (N, 3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(np.asarray(pixels).transpose(0, 3, 1, 2)))
