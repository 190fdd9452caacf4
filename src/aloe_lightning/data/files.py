"""Images from a folder of picture files, from an `.npy` array, and from SVHN's `.mat`: outliers and OOD test sets."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.io import loadmat
from torchvision.transforms.functional import center_crop, resize

from aloe_lightning.data.integrity import read_npy, require_files
from aloe_lightning.data.source import ImageSet, MappedImages, channels_first
from aloe_lightning.errors import UserError
from aloe_lightning.progress import track

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".ppm", ".bmp", ".gif", ".tif", ".tiff", ".webp"})
SIZE = 32


def read_image(path: Path) -> NDArray[np.uint8]:
    """One picture as uint8 (32, 32, 3): short side resized to 32 (bilinear, antialiased), then centre-cropped.

    A picture of 32x32 pixels is left alone.

    Raises:
        UserError: naming the file, if it cannot be decoded.
    """
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except Exception as error:  # a broken picture raises whatever its decoder likes, SyntaxError for PNG
        raise UserError(f"cannot read the image {path.absolute()} ({error}): repair or remove it") from error
    if image.size != (SIZE, SIZE):
        image = center_crop(resize(image, [SIZE]), [SIZE, SIZE])
    return np.asarray(image)


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """All pictures under a folder, of any size and depth, in sorted order of their paths.

    Attributes:
        path: the folder.
        count: how many pictures there must be; None for any number.
    """

    path: str
    count: int | None = None

    def load(self) -> ImageSet:
        """Decode everything into memory."""
        folder = Path(self.path).expanduser()
        if not folder.is_dir():
            raise UserError(f"no folder of images at {folder.absolute()}: put the pictures there, or correct the path")
        files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
        if not files:
            raise UserError(f"no images in {folder.absolute()}: looked for {', '.join(sorted(SUFFIXES))} at any depth")
        if self.count is not None and len(files) != self.count:
            raise UserError(f"{folder.absolute()} holds {len(files)} images; this set has {self.count}")
        with ThreadPoolExecutor() as pool:
            images = list(track(pool.map(read_image, files), len(files), f"reading {folder.name}"))
        return ImageSet(channels_first(images))


@dataclass(frozen=True, kw_only=True)
class NpyImages:
    """Images in a memory-mapped `.npy`: uint8 (N, 32, 32, 3), the layout of 300K_random_images.npy.

    Attributes:
        path: the file.
    """

    path: str

    def load(self) -> MappedImages:
        """Map the file; images are read as they are needed."""
        return MappedImages(read_npy(Path(self.path).expanduser()))


@dataclass(frozen=True, kw_only=True)
class SVHN:
    """Street View House Numbers (Netzer et al., 2011), test split: the first 1,000 images of each class, 10,000 in all.

    Attributes:
        path: the official `test_32x32.mat`.
        verify: compare the file with the official MD5 sum.
    """

    path: str
    verify: bool = True

    def load(self) -> ImageSet:
        """The selected images with labels, in the order of the file."""
        file = Path(self.path).expanduser()
        remedy = "fetch the official test_32x32.mat from http://ufldl.stanford.edu/housenumbers"
        sums = {file.name: "eb5a983be6a315427106f1b164d9cef3"}
        require_files("SVHN", file.parent, sums, verify=self.verify, remedy=remedy)
        try:
            content = loadmat(file)
            images, labels = content["X"].transpose(3, 0, 1, 2), content["y"].ravel().astype(np.int64) % 10
            if images.dtype != np.uint8 or images.shape != (len(labels), 32, 32, 3):
                raise ValueError(f"X is {images.dtype} {content['X'].shape} beside {len(labels)} labels")
        except Exception as error:  # scipy raises a dozen kinds for a broken .mat
            raise UserError(f"cannot read {file.absolute()}: truncated or not SVHN's .mat ({error})") from error
        chosen = np.sort(np.concatenate([np.flatnonzero(labels == digit)[:1000] for digit in range(10)]))
        return ImageSet(channels_first(images[chosen]), torch.from_numpy(labels[chosen]))
