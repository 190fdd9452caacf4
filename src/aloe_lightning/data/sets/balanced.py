"""Class-balanced training sets: originals first, then augmented copies, each original equally often."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from aloe_lightning.data.images.files import from_cache, write_header
from aloe_lightning.data.images.source import ImageSet, MappedImages, Order
from aloe_lightning.runtime.progress import track
from aloe_lightning.runtime.seeding import generator
from aloe_lightning.storage.cache import cached, content_hash

IMAGES_PER_DRAW = 4096
"""Number of images that are augmented with one generator; another number gives other pixels."""
AUGMENTATION_VERSION = 1
"""Part of the cache's key: increase it when the same seed gives other pixels."""

Warp = Callable[[Tensor, torch.Generator], Tensor]


def source_indices(labels: Tensor, per_class: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Assign an original to each position of the balanced set, which is ordered by class.

    Args:
        labels: classes 0..K-1 of the originals, int64 (N,), each at least once.
        per_class: number of positions of each class. From a class with more originals, this number is drawn.
        seed: seed of that draw.

    Returns:
        Indices of originals (K * per_class,), and whether the position has the original itself (K * per_class,).
    """
    position = torch.arange(per_class)
    indices, is_original = [], []
    for label in range(int(labels.max()) + 1):
        members = torch.nonzero(labels == label).ravel()
        if len(members) > per_class:
            drawn = torch.randperm(len(members), generator=generator(seed, "originals", label))[:per_class]
            members = members[drawn.sort().values]
        indices.append(members[position % len(members)])
        is_original.append(position < len(members))
    return torch.cat(indices), torch.cat(is_original)


def shares_of_originals(originals: ImageSet, per_class: int, num_classes: int) -> Tensor:
    """Return the share of each class's positions that have an original itself, float32 (num_classes,)."""
    assert originals.labels is not None
    return (torch.bincount(originals.labels, minlength=num_classes) / per_class).clamp(max=1)


class BalancedImages:
    """The balanced set with an original at every position, to be augmented on the device.

    Args:
        originals: images with labels.
        per_class: number of positions of each class.
        seed: see `source_indices`.
    """

    order: Order = "shuffled"

    def __init__(self, originals: ImageSet, per_class: int, seed: int = 0) -> None:
        assert originals.labels is not None
        self.originals = originals
        self.source_indices, _ = source_indices(originals.labels, per_class, seed)
        self.identity: str | None = content_hash("originals", labelled_hash(originals), per_class, seed)
        self.labels: Tensor | None = originals.labels[self.source_indices]

    def __len__(self) -> int:
        return len(self.source_indices)

    def take(self, indices: Tensor) -> Tensor:
        """Return the originals at these positions (n,), uint8 (n, 3, 32, 32)."""
        return self.originals.take(self.source_indices[indices])


def balanced_file(originals: ImageSet, per_class: int, seed: int, warp: Warp) -> MappedImages:
    """Return the balanced set, memory-mapped from the cache; make it first if it does not exist.

    Args:
        originals: images with labels.
        per_class: number of images of each class.
        seed: seed of the augmentation; the file is a function of originals and seed, to the byte.
        warp: the augmentation.
    """
    assert originals.labels is not None
    indices, is_original = source_indices(originals.labels, per_class, seed)
    identity = content_hash("balanced", labelled_hash(originals), per_class, seed, AUGMENTATION_VERSION)

    def make(part: Path) -> None:
        pairs = zip(*(torch.split(values, IMAGES_PER_DRAW) for values in (indices, is_original)), strict=True)
        with part.open("wb") as stream:
            write_header(stream, len(indices))
            parts = track(pairs, len(indices), "augmenting", step=IMAGES_PER_DRAW)
            for number, (chosen, unchanged) in enumerate(parts):
                images = originals.take(chosen)
                warped = warp(images, generator(seed, "balance", number))
                images = torch.where(unchanged.view(-1, 1, 1, 1), images, warped)
                stream.write(images.permute(0, 2, 3, 1).contiguous().numpy().tobytes())

    file = cached(f"balanced/{identity}.npy", make)
    return MappedImages(from_cache(file), labels=originals.labels[indices], identity=identity)


def labelled_hash(images: ImageSet) -> str:
    """Return the SHA-256 of pixels and labels, in hexadecimal."""
    assert images.labels is not None
    return hashlib.sha256(images.images.numpy().tobytes() + images.labels.numpy().tobytes()).hexdigest()
