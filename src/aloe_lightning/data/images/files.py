"""Images from a folder of picture files or from an `.npy` array: anybody's outliers and OOD test sets."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torchvision.transforms.functional import center_crop, resize

from aloe_lightning.data.images.integrity import read_npy
from aloe_lightning.data.images.source import MappedImages
from aloe_lightning.errors import UserError
from aloe_lightning.runtime.progress import track
from aloe_lightning.storage.cache import cached, fingerprint, identity_of

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".ppm", ".bmp", ".gif", ".tif", ".tiff", ".webp"})
SIZE = 32
READER = 2  # part of the cache's key: raise it when `read_image` gives other pixels

Fit = Literal["cover", "crop", "stretch"]
"""How a picture becomes 32x32: short side resized and the middle cropped; the middle cropped; resized as a whole."""


def read_image(path: Path, fit: Fit = "cover") -> NDArray[np.uint8]:
    """One picture as uint8 (32, 32, 3); resizing is bilinear with antialiasing, a picture of 32x32 is left alone.

    Raises:
        UserError: naming the file, if it cannot be decoded.
    """
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I;16"):  # Pillow would cut 16 bits to 8 at the wrong end
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            elif image.mode in ("I", "F"):
                raise ValueError(
                    f"its pixels are of 32 bits, mode {image.mode}, of unknown range: convert it to 8 bits"
                )
            image = image.convert("RGB")
    except Exception as error:  # a broken picture raises whatever its decoder likes, SyntaxError for PNG
        raise UserError(f"cannot read the image {path.absolute()} ({error}): repair or remove it") from error
    if image.size != (SIZE, SIZE):
        if fit == "stretch":
            image = resize(image, [SIZE, SIZE])
        else:
            image = center_crop(resize(image, [SIZE]) if fit == "cover" else image, [SIZE, SIZE])
    return np.asarray(image)


def pictures_in(folder: Path) -> list[Path]:
    """All picture files under a folder at any depth, hidden ones left out, sorted by path."""
    found, seen = [], set()
    for place, names, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        # A link back to where the walk came from would lead round in circles.
        names[:] = [] if real in seen else [name for name in names if not name.startswith(".")]
        seen.add(real)
        found += [Path(place, name) for name in files if not name.startswith(".")]
    return sorted(file for file in found if file.suffix.lower() in SUFFIXES)


def read_pictures(files: Sequence[Path], folder: Path, fit: Fit = "cover") -> MappedImages:
    """Decode files below a folder; the pixels are kept in the cache, so that the next run need not decode again."""
    identity = fingerprint(identity_of(files, folder), fit, READER)

    def decode(part: Path) -> None:
        with part.open("wb") as stream, ThreadPoolExecutor() as pool:
            write_header(stream, len(files))
            images = pool.map(lambda file: read_image(file, fit), files)
            for image in track(images, len(files), f"reading {folder.name}"):
                stream.write(image.tobytes())

    return MappedImages(from_cache(cached(f"pictures/{identity}.npy", decode)), identity=identity)


def from_cache(file: Path) -> NDArray[np.uint8]:
    """An `.npy` of images that this package made; one that was damaged since is removed, so that it is made again."""
    try:
        return read_npy(file)
    except UserError as error:
        file.unlink()
        raise UserError(f"{file} was damaged and is removed: run again, it will be made anew") from error


def write_header(stream: BinaryIO, count: int) -> None:
    """The beginning of an `.npy` of `count` images, always 128 bytes long; the pixels follow, (32, 32, 3) each."""
    shape = (count, SIZE, SIZE, 3)
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """All pictures under a folder, of any size and depth, in sorted order of their paths.

    Attributes:
        path: the folder.
        count: how many pictures there must be; None for any number.
    """

    path: str
    count: int | None = None

    def load(self) -> MappedImages:
        """Decode everything, or find it in the cache."""
        folder = Path(self.path).expanduser()
        if not folder.is_dir():
            raise UserError(f"no folder of images at {folder.absolute()}: put the pictures there, or correct the path")
        files = pictures_in(folder)
        if not files:
            raise UserError(f"no images in {folder.absolute()}: looked for {', '.join(sorted(SUFFIXES))} at any depth")
        if self.count is not None and len(files) != self.count:
            raise UserError(f"{folder.absolute()} holds {len(files)} images; this set has {self.count}")
        return read_pictures(files, folder)


@dataclass(frozen=True, kw_only=True)
class NpyImages:
    """Images in a memory-mapped `.npy`: uint8 (N, 32, 32, 3), the layout of 300K_random_images.npy.

    Attributes:
        path: the file.
    """

    path: str

    def load(self) -> MappedImages:
        """Map the file; images are read as they are needed."""
        return mapped(Path(self.path).expanduser())


def mapped(file: Path) -> MappedImages:
    """An `.npy` of images, memory-mapped."""
    return MappedImages(read_npy(file), identity=identity_of([file], file.parent))
