"""The named sets of auxiliary outliers, out-of-distribution images for the training."""

from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from aloe_lightning.data.images.files import NpyImages, from_cache, write_header
from aloe_lightning.data.images.integrity import read_pickle
from aloe_lightning.data.images.source import ExcludingSource, MappedImages
from aloe_lightning.data.sets.named import NamedUnlabelledSet
from aloe_lightning.errors import UserError
from aloe_lightning.runtime.progress import track
from aloe_lightning.storage.cache import cached, content_hash, identity_of

RECORD = 3 * 32 * 32
"""Bytes of an image."""


class RandomImages300K(NamedUnlabelledSet):
    """300K Random Images."""

    dataset: ClassVar[str] = "random_images_300k"

    def load(self) -> MappedImages:
        """Map the file; images are read when they are used."""
        (file,) = self.verified_files("train")
        return NpyImages(path=str(file)).load()


class TinyImages(NamedUnlabelledSet):
    """80 Million Tiny Images, the paper's outliers, which their creators withdrew: see its page in the catalogue."""

    dataset: ClassVar[str] = "tiny_images"

    def load(self) -> ExcludingSource:
        """Map the file without the images of the exclusion list; images are read when they are used."""
        file, exclusion_list = self.paths()
        size = file.stat().st_size
        if size == 0 or size % RECORD:
            raise UserError(f"{file} has {size:,} bytes, no whole number of images of {RECORD:,}: it is truncated")
        self.check_count("images", size // RECORD, self.card.images["train"])
        records = np.memmap(file, np.uint8, mode="r", shape=(size // RECORD, 3, 32, 32))
        # A record is column-major: colour, column, row.
        images = MappedImages(
            records.transpose(0, 3, 2, 1), order="blocks", identity=identity_of([file, exclusion_list], file.parent)
        )
        return ExcludingSource(images, read_indices(exclusion_list, len(images)))


def read_indices(file: Path, count: int) -> NDArray[np.int64]:
    """Read an exclusion list, one index per line counted from 1, as indices counted from 0.

    Raises:
        UserError: naming the file if a line is not the index of one of `count` images.
    """
    try:
        lines = np.loadtxt(file, dtype=np.int64, ndmin=2)
        if lines.shape[1] != 1:
            raise ValueError(f"{lines.shape[1]} numbers per line")
        indices: NDArray[np.int64] = lines[:, 0] - 1
    except Exception as error:  # numpy raises nearly anything
        raise UserError(f"cannot read {file}: not one index per line ({error})") from error
    if len(indices) and not 0 <= indices.min() <= indices.max() < count:
        raise UserError(f"{file} names images outside 1..{count:,}: it belongs to another tiny_images.bin")
    return indices


class ImageNet32(NamedUnlabelledSet):
    """ImageNet at 32x32."""

    dataset: ClassVar[str] = "imagenet32"

    def load(self) -> MappedImages:
        """Map the images; the first call combines them to one file in the cache, 3.9 GB."""
        files = self.paths()
        identity = content_hash("imagenet32", identity_of(files, files[0].parent))

        def combine(part: Path) -> None:
            with part.open("wb") as stream:
                count = 0
                write_header(stream, count)
                for file in track(files, len(files), "reading ImageNet 32x32", unit="files"):
                    batch = self._read_batch(file)
                    stream.write(batch.transpose(0, 2, 3, 1).tobytes())
                    count += len(batch)
                stream.seek(0)
                write_header(stream, count)  # has the length of the first one: numpy pads it for a growing number

        images = MappedImages(from_cache(cached(f"imagenet32/{identity}.npy", combine)), identity=identity)
        self.check_count("images", len(images), self.card.images["train"])
        return images

    def _read_batch(self, file: Path) -> NDArray[np.uint8]:
        """Return the images of a file, uint8 (n, 3, 32, 32)."""
        content_name = "a batch of ImageNet 32x32"
        try:
            content = np.load(file, allow_pickle=False) if file.suffix == ".npz" else read_pickle(file, content_name)
            rows: NDArray[np.uint8] = content["data"]
            if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != RECORD:
                raise ValueError(f"data is {rows.dtype} {rows.shape}, not uint8 (n, {RECORD})")
        except UserError:
            raise
        except Exception as error:  # a damaged file raises nearly anything
            raise UserError(f"cannot read {file}: truncated or not {content_name} ({error})") from error
        return rows.reshape(-1, 3, 32, 32)
