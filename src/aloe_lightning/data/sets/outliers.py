"""The named sets of auxiliary outliers: what a net is shown in training as out of distribution."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aloe_lightning.data.catalogue import sets as catalogue
from aloe_lightning.data.images.files import from_cache, mapped, write_header
from aloe_lightning.data.images.integrity import read_pickle, require_files
from aloe_lightning.data.images.source import ExcludingSource, MappedImages, Order, rows_at
from aloe_lightning.data.sets.named import NamedSet
from aloe_lightning.errors import UserError
from aloe_lightning.runtime.progress import track
from aloe_lightning.storage.cache import cached, fingerprint, identity_of

RECORD = 3 * 32 * 32


class RandomImages300K(NamedSet):
    """300K Random Images, the usual stand-in for 80 Million Tiny Images since these were withdrawn.

    Images: 300,000 of 32x32, a cleaned sample of 80 Million Tiny Images: pictures that belong to CIFAR, and those of
        the classes of Places and LSUN, are taken out, so that it is not neutral towards these OOD test sets.
    Classes: none.
    Split: all images train.
    Source: https://people.eecs.berkeley.edu/~hendrycks/300K_random_images.npy (922 MB), in the data root itself.
    Terms: none stated; a part of a set whose creators withdrew it.
    Citation: Hendrycks, Mazeika, Dietterich: Deep Anomaly Detection with Outlier Exposure, ICLR 2019.
    """

    card = catalogue.RANDOM_IMAGES_300K

    def load(self) -> MappedImages:
        """Map the file; images are read as they are needed."""
        (file,) = self.place()
        sums = {file.name: str(self.card.archives[0].md5)}
        require_files(self.card.title, file.parent, sums, verify=self.verify, remedy=self.card.remedy(self.folder))
        return mapped(file)


class TinyImages(NamedSet):
    """80 Million Tiny Images, the paper's outliers. Withdrawn: think before you use it, and say so where you publish.

    Its creators took it down in 2020 because it holds derogatory labels and offensive pictures, and ask everybody to
    delete their copies. It is never fetched; 300K Random Images is the default of every experiment.

    Images: 79,302,017 of 32x32 in one file of records; those that the exclusion list says are in CIFAR are skipped.
    Classes: none used.
    Split: all images train. An epoch reads the file in blocks from a random place on.
    Source: `80M_Tiny_Images/tiny_images.bin` (244 GB) and `80M_Tiny_Images/80mn_cifar_idxs.txt` (132,416 numbers,
        counted from 1), placed by hand.
    Terms: withdrawn by its creators: https://groups.csail.mit.edu/vision/TinyImages/.
    Citation: Torralba, Fergus, Freeman: 80 Million Tiny Images, TPAMI 2008.
    """

    card = catalogue.TINY_IMAGES

    def load(self) -> ExcludingSource:
        """Map the file; images are read as they are needed."""
        file, excluded = self.place()
        size = file.stat().st_size
        if size == 0 or size % RECORD:
            raise UserError(f"{file} has {size:,} bytes, no whole number of images of {RECORD:,}: it is truncated")
        self.expect("images", size // RECORD, self.card.images["train"])
        records = np.memmap(file, np.uint8, mode="r", shape=(size // RECORD, 3, 32, 32))
        images = TinyRecords(records, identity=identity_of([file, excluded], file.parent))
        return ExcludingSource(images, read_indices(excluded, len(images)))


@dataclass(frozen=True)
class TinyRecords:
    """Records of `tiny_images.bin`, memory-mapped.

    Attributes:
        records: uint8 (N, 3, 32, 32): colour, column, row; a record is column-major.
        identity: of the file.
    """

    records: NDArray[np.uint8]
    identity: str | None = None
    order: Order = "blocks"
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.records)

    def take(self, indices: Tensor) -> Tensor:
        """Indices (n,) -> uint8 images (n, 3, 32, 32); reads in file order, returns in the order asked."""
        return torch.from_numpy(rows_at(self.records, indices)).transpose(2, 3).contiguous()


def read_indices(file: Path, count: int) -> NDArray[np.int64]:
    """An exclusion list: one index a line, counted from 1 -> indices counted from 0.

    Raises:
        UserError: naming the file if a line is no index of an image.
    """
    try:
        lines = np.loadtxt(file, dtype=np.int64, ndmin=2)
        if lines.shape[1] != 1:
            raise ValueError(f"{lines.shape[1]} numbers in each")
        indices: NDArray[np.int64] = lines[:, 0] - 1
    except (ValueError, OSError) as error:
        raise UserError(f"cannot read {file}: not one index a line ({error})") from error
    if len(indices) and not 0 <= indices.min() <= indices.max() < count:
        raise UserError(f"{file} names images outside 1..{count:,}: it belongs to another tiny_images.bin")
    return indices


class ImageNet32(NamedSet):
    """ImageNet at 32x32: outliers of everyday things, larger and more varied than 300K Random Images.

    Images: 1,281,167 of 32x32, the ILSVRC 2012 training images, box-filtered. Many show what CIFAR's classes show.
    Classes: 1,000; not used.
    Split: training images.
    Source: https://image-net.org/download-images.php (3 GB), in `imagenet32/`, ten files as pickles or as `.npz`;
        placed by hand, for the download wants a login.
    Terms: for non-commercial research and education, by ImageNet's terms of access.
    Citation: Chrabaszcz, Loshchilov, Hutter: A Downsampled Variant of ImageNet as an Alternative to the CIFAR datasets,
        arXiv:1707.08819, 2017.
    """

    card = catalogue.IMAGENET32

    def load(self) -> MappedImages:
        """Map the images; the first time they are put together in the cache, 3.9 GB."""
        files = self.place()
        identity = fingerprint("imagenet32", identity_of(files, files[0].parent))

        def put_together(part: Path) -> None:
            with part.open("wb") as stream:
                count = 0
                write_header(stream, count)
                for file in track(files, len(files), "reading ImageNet 32x32", unit="files"):
                    batch = self._batch(file)
                    stream.write(batch.transpose(0, 2, 3, 1).tobytes())
                    count += len(batch)
                stream.seek(0)
                write_header(stream, count)  # as long as the first: numpy pads it for a number to grow

        images = MappedImages(from_cache(cached(f"imagenet32/{identity}.npy", put_together)), identity=identity)
        self.expect("images", len(images), self.card.images["train"])
        return images

    def _batch(self, file: Path) -> NDArray[np.uint8]:
        """uint8 (n, 3, 32, 32)."""
        kind = "a batch of ImageNet 32x32"
        try:
            if file.suffix == ".npz":
                with np.load(file, allow_pickle=False) as arrays:
                    rows = arrays["data"]
            else:
                rows = read_pickle(file, kind)["data"]
            if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != RECORD:
                raise ValueError(f"data is {rows.dtype} {rows.shape}, not uint8 (n, {RECORD})")
        except UserError:
            raise
        except Exception as error:  # a damaged file raises nearly anything
            raise UserError(f"cannot read {file}: truncated or not {kind} ({error})") from error
        images: NDArray[np.uint8] = rows.reshape(-1, 3, 32, 32)
        return images
