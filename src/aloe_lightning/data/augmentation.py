"""Augmentation of a whole batch at once, with separate random numbers for every sample."""

import torch
import torch.nn.functional as F
from torch import Tensor


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
