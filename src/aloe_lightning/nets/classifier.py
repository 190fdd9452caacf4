"""The interface of a net, and its first layer."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from aloe_lightning.errors import UserError
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import Channels


class Classifier(nn.Module, ABC):
    """A net of K classes for images (N, 3, H, W) in [0, 1]; it normalises them itself.

    An image's logits and features depend on no other image in eval mode, and both are differentiable in the images.

    Attributes:
        never_waits: the host waits for the device nowhere in a pass, so that a pass can be a CUDA graph.
    """

    never_waits: ClassVar[bool] = False

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, K)."""

    @abstractmethod
    def features(self, images: Tensor) -> list[Tensor]:
        """Return features of some layers, each (N, C_l), in the order of the layers."""


@checked
class Normalize(nn.Module):
    """(x - mean) / std per channel, as the first layer of a net, so that a perturbation of the images is in pixels.

    The constants move with the net but are not in its state dict.

    Args:
        mean: channel means of the training images in [0, 1].
        std: channel standard deviations of the training images.

    Raises:
        UserError: if mean and std are not three numbers each, or a standard deviation is not positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Channels, std: Channels) -> None:
        super().__init__()
        if min(std) <= 0:
            raise UserError(f"std must be above 0 in every channel; got {list(std)}")
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(
                name, torch.tensor(list(values), dtype=torch.float32).view(1, 3, 1, 1), persistent=False
            )

    def forward(self, images: Tensor) -> Tensor:
        """Normalise images (N, 3, H, W) in [0, 1]."""
        return (images - self.mean) / self.std
