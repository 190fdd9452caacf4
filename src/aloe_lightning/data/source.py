"""Where images come from: something with a length that gives uint8 images for an index tensor."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class ImageSource(Protocol):
    """Images of 32x32 pixels, in memory or on disk; uint8 until a batch is on the device."""

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

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Tensor) -> Tensor:
        """Indices (n,) -> uint8 images (n, 3, 32, 32)."""
        return self.images[indices]

    def subset(self, count: int | None, seed: int = 0) -> "ImageSet":
        """`count` images drawn without replacement by a fixed seed, in their old order; all of them if None or more."""
        if count is None or count >= len(self):
            return self
        chosen = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))[:count].sort().values
        return ImageSet(self.images[chosen], None if self.labels is None else self.labels[chosen])


@dataclass(frozen=True)
class MappedImages:
    """Images in a memory-mapped array: uint8 (N, 32, 32, 3); only the rows asked for are read."""

    rows: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: Tensor) -> Tensor:
        """Indices (n,) -> uint8 images (n, 3, 32, 32); reads in file order, returns in the order asked."""
        wanted, place = np.unique(indices.numpy(), return_inverse=True)
        return channels_first(self.rows[wanted][place])


def channels_first(pixels: NDArray[np.uint8] | Sequence[NDArray[np.uint8]]) -> Tensor:
    """uint8 (N, H, W, 3) -> contiguous uint8 tensor (N, 3, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(np.asarray(pixels).transpose(0, 3, 1, 2)))
