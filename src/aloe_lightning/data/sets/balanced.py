"""As many training images of every class: originals first, then augmented ones, every original equally often."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from aloe_lightning.data.images.files import from_cache, write_header
from aloe_lightning.data.images.source import ImageSet, MappedImages, Order
from aloe_lightning.runtime.progress import meter
from aloe_lightning.runtime.seeding import generator
from aloe_lightning.storage.cache import cached, fingerprint

CHUNK = 4096
LAW = 1  # part of the cache's key: raise it when the same seed gives other pixels

Warp = Callable[[Tensor, torch.Generator], Tensor]


def origins(labels: Tensor, per_class: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Which original stands behind each place of the balanced set, class after class.

    Args:
        labels: classes 0..K-1 of the originals, int64 (N,), each at least once.
        per_class: places of each class. Of a class with more originals, so many are drawn.
        seed: of that draw.

    Returns:
        Indices of originals (K * per_class,), and whether the place holds the original itself (K * per_class,).
    """
    place = torch.arange(per_class)
    behind, itself = [], []
    for label in range(int(labels.max()) + 1):
        members = torch.nonzero(labels == label).ravel()
        if len(members) > per_class:
            drawn = torch.randperm(len(members), generator=generator(seed, "originals", label))[:per_class]
            members = members[drawn.sort().values]
        behind.append(members[place % len(members)])
        itself.append(place < len(members))
    return torch.cat(behind), torch.cat(itself)


def shares_kept(originals: ImageSet, per_class: int, num_classes: int) -> Tensor:
    """Share of each class's places that hold an original itself, float32 (num_classes,)."""
    assert originals.labels is not None
    return (torch.bincount(originals.labels, minlength=num_classes) / per_class).clamp(max=1)


class BalancedImages:
    """The balanced set with every place holding its original: what is augmented is augmented on the device.

    Args:
        originals: with labels.
        per_class: places of each class.
        seed: see `origins`.
    """

    order: Order = "shuffled"

    def __init__(self, originals: ImageSet, per_class: int, seed: int = 0) -> None:
        assert originals.labels is not None
        self.originals = originals
        self.behind, _ = origins(originals.labels, per_class, seed)
        self.identity: str | None = fingerprint("originals", digest(originals), per_class, seed)
        self.labels: Tensor | None = originals.labels[self.behind]

    def __len__(self) -> int:
        return len(self.behind)

    def take(self, indices: Tensor) -> Tensor:
        """Indices (n,) -> the originals behind these places, uint8 (n, 3, 32, 32)."""
        return self.originals.take(self.behind[indices])


def balanced_file(originals: ImageSet, per_class: int, seed: int, warp: Warp) -> MappedImages:
    """The balanced set, memory-mapped from the cache; made first if it is not there.

    Args:
        originals: with labels.
        per_class: images of each class.
        seed: of the augmentation; the file is the same to the byte for a seed.
        warp: the augmentation.
    """
    assert originals.labels is not None
    behind, itself = origins(originals.labels, per_class, seed)
    identity = fingerprint("balanced", digest(originals), per_class, seed, LAW)

    def make(part: Path) -> None:
        draw = partial(generator, seed, "balance")
        shown = meter("augmenting", len(behind), "images")
        try:
            with part.open("wb") as stream:
                write_header(stream, len(behind))
                for number, start in enumerate(range(0, len(behind), CHUNK)):
                    images = originals.take(behind[start : start + CHUNK])
                    stays = itself[start : start + CHUNK].view(-1, 1, 1, 1)
                    images = torch.where(stays, images, warp(images, draw(number)))
                    stream.write(images.permute(0, 2, 3, 1).contiguous().numpy().tobytes())
                    shown.update(min(start + CHUNK, len(behind)))
        finally:
            shown.close()

    file = cached(f"balanced/{identity}.npy", make)
    return MappedImages(from_cache(file), labels=originals.labels[behind], identity=identity)


def digest(images: ImageSet) -> str:
    """SHA-256 of pixels and labels, in hexadecimal."""
    assert images.labels is not None
    return hashlib.sha256(images.images.numpy().tobytes() + images.labels.numpy().tobytes()).hexdigest()
