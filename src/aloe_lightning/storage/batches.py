"""Results of single batches on disk, so that a killed evaluation continues where it stopped."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aloe_lightning.errors import UserError
from aloe_lightning.storage.files import atomic_write

Arrays = Mapping[str, NDArray[Any]]
DIGEST = "digest"


class BatchStore:
    """Arrays of each batch, in one file each that appears whole or not at all.

    Args:
        folder: folder of the files; None keeps nothing.
        key: settings that decide the results; other settings have other files.
    """

    def __init__(self, folder: str | Path | None, key: Mapping[str, Any]) -> None:
        name = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:16]
        self.folder = None if folder is None else Path(folder).expanduser() / f"batches-{name}"

    def read(self, name: str, position: int, digest: int) -> dict[str, NDArray[Any]] | None:
        """Return the arrays of a batch, or None if it has not been computed.

        Args:
            name: set and condition, such as `fabric/attacked`.
            position: number of the batch.
            digest: digest of its images.

        Raises:
            UserError: if the stored batch had other images.
        """
        if self.folder is None:
            return None
        file = self._file(name, position)
        try:
            with np.load(file, allow_pickle=False) as content:
                arrays = {key: content[key] for key in content.files}
            stored = int(arrays.pop(DIGEST))
        except FileNotFoundError:
            return None
        except Exception:  # damaged, and zipfile and numpy raise whatever the damage suggests: compute it again
            return None
        if stored != digest:
            raise UserError(
                f"batch {position} of {name.partition('/')[0]} has other images than when {file} was written: the data "
                "have changed, their order is random, or the batches are of another size; choose another folder="
            )
        return arrays

    def write(self, name: str, position: int, digest: int, arrays: Arrays) -> None:
        """Store the arrays of a batch."""
        if self.folder is None:
            return
        file = self._file(name, position)
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as part, part.open("wb") as stream:
            np.savez(stream, **{DIGEST: np.uint64(digest), **arrays})  # type: ignore[arg-type]

    def discard(self) -> None:
        """Remove all stored batches."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, name: str, position: int) -> Path:
        assert self.folder is not None
        return self.folder / f"{name}-{position:06d}.npz"


def digest_of_batch(images: Tensor, labels: Tensor | None) -> int:
    """Return a 63-bit digest of a batch of images and labels."""
    content = hashlib.sha256(images.cpu().contiguous().numpy().tobytes())
    if labels is not None:
        content.update(labels.cpu().contiguous().numpy().tobytes())
    return int.from_bytes(content.digest()[:8], "little") >> 1


class SetDigest:
    """SHA-256 of the images and labels of a set, whatever the batches that they come in."""

    def __init__(self) -> None:
        self._images, self._labels = hashlib.sha256(), hashlib.sha256()

    def update(self, images: Tensor, labels: Tensor | None = None) -> None:
        """Add a batch of images float32 (n, 3, H, W) in [0, 1], and their labels."""
        self._images.update(images.cpu().contiguous().numpy().tobytes())
        if labels is not None:
            self._labels.update(labels.cpu().contiguous().numpy().tobytes())

    def hexdigest(self) -> str:
        """Return the digest of all batches so far, 64 hex digits."""
        return hashlib.sha256((self._images.hexdigest() + self._labels.hexdigest()).encode()).hexdigest()


@torch.no_grad()
def digest_of_net(net: nn.Module) -> str:
    """Return the SHA-256 of the names and values of a net's parameters and buffers, 64 hex digits."""
    content = hashlib.sha256()
    for name, tensor in (*net.named_parameters(), *net.named_buffers()):
        content.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        content.update(tensor.detach().cpu().double().contiguous().numpy().tobytes())
    return content.hexdigest()
