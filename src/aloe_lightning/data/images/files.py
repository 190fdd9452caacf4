"""Images from a folder of picture files or from an `.npy` array, as custom outliers and OOD test sets."""

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from aloe_lightning.data.catalogue.card import Fit
from aloe_lightning.data.images.integrity import read_npy, refuse_cast
from aloe_lightning.data.images.source import MappedImages
from aloe_lightning.errors import UserError
from aloe_lightning.runtime.progress import track
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import PositiveInt, Text
from aloe_lightning.storage.cache import cached, content_hash, identity_of, read_cached

log = logging.getLogger(__name__)
SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".ppm", ".pgm", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
)
UNREADABLE = frozenset(
    {".heic", ".heif", ".avif", ".svg", ".psd", ".tga", ".jp2", ".dng", ".cr2", ".nef", ".arw", ".exr"}
)
"""Suffixes of pictures that are left out, which the log says."""
SYSTEM_FOLDERS = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"})
"""Folders that archive programs, file servers and operating systems add; they hold no pictures of the user."""
SIZE = 32
MAX_PIXELS = 89_478_485
"""Largest picture, of 360 MB in memory; Pillow warns of larger ones, which a damaged or evil file may claim to be."""
READER_VERSION = 2
"""Part of the cache's key: increase it when `read_image` returns other pixels."""


def read_image(path: Path, fit: Fit = "cover", size: int | None = SIZE) -> NDArray[np.uint8]:
    """Read a picture as uint8 (size, size, 3); resizing is bilinear with antialiasing.

    Of an animation the first image is read. Transparency is left out: a transparent pixel has the colour stored for it.

    Args:
        path: the file.
        fit: how a picture of another size is made square.
        size: height and width; None, and a picture of this size, leave the pixels unchanged.

    Raises:
        UserError: naming the file, if it cannot be decoded.
    """
    from torchvision.transforms.functional import center_crop, resize

    try:
        with Image.open(path) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise ValueError(f"{opened.width}x{opened.height} pixels, more than {MAX_PIXELS:,}: reduce its size")
            ImageOps.exif_transpose(opened, in_place=True)  # a copy of a large picture would double the memory
            opened.load()
            image: Image.Image = opened
            if image.mode.startswith("I;16"):  # Pillow would cut 16 bits to 8 at the wrong end
                image = Image.fromarray(_upper_bits(np.asarray(image)))
            elif image.mode in ("I", "F"):
                raise ValueError(f"mode {image.mode}: 32-bit pixels of unknown range: convert it to 8 bits")
            image = image if image.mode == "RGB" else image.convert("RGB")
    except Exception as error:  # a broken picture raises anything, SyntaxError for PNG
        raise UserError(f"cannot read the image {path.absolute()} ({error}): repair or remove it") from error
    if size is not None and image.size != (size, size):
        if fit == "stretch":
            image = resize(image, [size, size])
        else:
            image = center_crop(resize(image, [size]) if fit == "cover" else image, [size, size])
    return np.asarray(image)


def _upper_bits(pixels: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Return the upper 8 of 16 bits, or raise a ValueError if they are nearly empty, as of 8 or 12 bits."""
    if 0 < pixels.max() < 1 << 12:
        raise ValueError(f"16-bit pixels of at most {pixels.max()}, nearly black: convert it to 8 bits of full range")
    return (pixels >> 8).astype(np.uint8)


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden or of the system, by its name."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def pictures_in(folder: Path) -> list[Path]:
    """Return all picture files under a folder at any depth, except hidden and system files, sorted by path."""
    files, visited = [], set()
    for place, folder_names, file_names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        # A link to a folder that was visited already would make the walk endless.
        folder_names[:] = [] if real in visited else [name for name in folder_names if not is_hidden(name)]
        visited.add(real)
        files += [Path(place, name) for name in file_names if not name.startswith(".")]
    left_out = sorted(file for file in files if file.suffix.lower() in UNREADABLE)
    if left_out:
        log.warning(
            "%s: %d pictures left out, such as %s: convert them to PNG", folder, len(left_out), left_out[0].name
        )
    return sorted(file for file in files if file.suffix.lower() in SUFFIXES)


def read_pictures(files: Sequence[Path], folder: Path, fit: Fit = "cover", size: int = SIZE) -> MappedImages:
    """Decode files below a folder; the cache keeps the pixels, so that the next run does not decode again."""
    identity = content_hash(identity_of(files, folder), fit, READER_VERSION, *([size] if size != SIZE else []))

    def decode(part: Path) -> None:
        with part.open("wb") as stream, ThreadPoolExecutor() as pool:
            write_header(stream, len(files), size)
            images = pool.map(lambda file: read_image(file, fit, size), files)
            for image in track(images, len(files), f"reading {folder.name}"):
                stream.write(image.tobytes())

    return MappedImages(from_cache(cached(f"pictures/{identity}.npy", decode)), identity=identity)


def from_cache(file: Path) -> NDArray[np.uint8]:
    """Map an `.npy` of images that this package wrote; a damaged file is removed, so that it is made again."""
    return read_cached(file, lambda path: read_npy(path, None))


def write_header(stream: BinaryIO, count: int, size: int = SIZE) -> None:
    """Write the header of an `.npy` of images, always 128 bytes; the pixels follow, (size, size, 3) per image."""
    shape = (count, size, size, 3)
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})


@checked
@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """All pictures under a folder, of any size and at any depth, sorted by path.

    Attributes:
        path: folder of the pictures.
        count: required number of pictures; null: any.
        size: height and width that pictures are resized to; the config takes it from data.size.
    """

    path: Text
    count: PositiveInt | None = None
    size: PositiveInt = 32

    def load(self) -> MappedImages:
        """Return all images; they are decoded once and then read from the cache."""
        folder = Path(self.path).expanduser()
        if not folder.is_dir():
            raise UserError(f"no folder of images at {folder.absolute()}: put the pictures there, or correct the path")
        files = pictures_in(folder)
        if not files:
            raise UserError(f"no images in {folder.absolute()}: looked for {', '.join(sorted(SUFFIXES))} at any depth")
        if self.count is not None and len(files) != self.count:
            raise UserError(f"{folder.absolute()} has {len(files)} images; this set has {self.count}")
        return read_pictures(files, folder, size=self.size)


@checked
@dataclass(frozen=True, kw_only=True)
class NpyImages:
    """Images in a memory-mapped `.npy`: uint8 (N, H, W, 3), the layout of 300K_random_images.npy.

    Attributes:
        path: file of the images.
    """

    path: Text

    def load(self) -> MappedImages:
        """Map the file; images are read when they are used."""
        file = Path(self.path).expanduser()
        rows = read_npy(file, None)
        refuse_cast(rows[:: max(1, len(rows) // 100)], file)
        return MappedImages(rows, identity=identity_of([file], file.parent))
