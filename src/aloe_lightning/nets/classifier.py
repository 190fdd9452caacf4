"""The interface of a net."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Classifier(nn.Module, ABC):
    """A net of K classes for images (N, 3, H, W) in [0, 1]; it normalises them itself.

    An image's logits and features depend on no other image in eval mode, and both are differentiable in the images.
    """

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, K)."""

    @abstractmethod
    def features(self, images: Tensor) -> list[Tensor]:
        """Return features of some layers, each (N, C_l), in the order of the layers."""
