"""Augmentation of a whole batch at once, with separate random numbers for every sample."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from aloe_lightning.data.images.source import ImageSet


def random_crop_flip(images: Tensor, padding: int = 4, generator: torch.Generator | None = None) -> Tensor:
    """Zero-pad, crop at a random position and flip horizontally with probability 1/2: CIFAR's usual augmentation.

    Args:
        images: (N, C, H, W) of any type.
        padding: pixels on each side.
        generator: source of the random numbers, on the images' device; None for torch's own.

    Returns:
        (N, C, H, W) of the same type.
    """
    count, channels, height, width = images.shape
    device = images.device

    def draw(bound: int) -> Tensor:
        return torch.randint(bound, (count, 1), generator=generator, device=device)

    rows = draw(2 * padding + 1) + torch.arange(height, device=device)
    columns = torch.arange(width, device=device).expand(count, width)
    columns = draw(2 * padding + 1) + torch.where(draw(2).bool(), columns, columns.flip(1))
    padded = F.pad(images, (padding,) * 4)
    sample = torch.arange(count, device=device).view(-1, 1, 1, 1)
    channel = torch.arange(channels, device=device).view(1, -1, 1, 1)
    return padded[sample, channel, rows.view(count, 1, height, 1), columns.view(count, 1, 1, width)]


class CropAndFlip:
    """The part of in-distribution data that is augmented as CIFAR is and holds no images out but the test set.

    Attributes:
        augment: pad training images by 4 pixels, crop them at random and flip them at random.
    """

    split: ClassVar[str] = "test"
    augment: bool

    def excluded_from_training(self) -> dict[str, ImageSet]:
        """Return no images: the test set is excluded anyway."""
        return {}

    def augmented(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Return a training batch, uint8 (B, 3, 32, 32), cropped and flipped at random if `augment`."""
        return random_crop_flip(images, generator=generator) if self.augment else images
