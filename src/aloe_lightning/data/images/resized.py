"""Images of one size, resized when they are read."""

import logging

import torch
from torch import Tensor

from aloe_lightning.data.images.source import ImageSet, ImageSource, Order

log = logging.getLogger(__name__)


def resized(images: Tensor, size: int) -> Tensor:
    """Resize the short side of images (n, 3, H, W), bilinear and antialiased, and cut out the square in the centre."""
    from torchvision.transforms.functional import center_crop, resize

    cropped: Tensor = center_crop(resize(images, [size], antialias=True), [size, size])
    return cropped


class ResizedSource:
    """A source whose images are resized when they are taken.

    Args:
        source: images of another size.
        size: height and width.
    """

    def __init__(self, source: ImageSource, size: int) -> None:
        self.source, self.size = source, size
        self.order: Order = source.order
        self.identity = source.identity and f"{source.identity} at {size}"
        self.labels = source.labels

    def __len__(self) -> int:
        return len(self.source)

    def take(self, indices: Tensor) -> Tensor:
        """Return the images at indices (n,), uint8 (n, 3, size, size)."""
        return resized(self.source.take(indices), self.size)


def of_size(source: ImageSource, size: int, name: str) -> ImageSource:
    """Return a source of images of a size: itself, or resized, which the log says."""
    if not len(source):
        return source
    height, width = source.take(torch.zeros(1, dtype=torch.int64)).shape[2:]
    if (height, width) == (size, size):
        return source
    log.info("%s: images resized from %dx%d to %dx%d", name, width, height, size, size)
    if isinstance(source, ImageSet):
        return ImageSet(resized(source.images, size), source.labels, source.order)
    return ResizedSource(source, size)
