"""The losses of Algorithm 1, the paper's attack on detectors that read the softmax."""

from typing import Literal

from torch import Tensor, nn

from aloe_lightning.attacks.linf import LossFn
from aloe_lightning.losses import entropy, uniform_cross_entropy

Membership = Literal["id", "ood"]
"""Side of an image: in-distribution (`id`) or OOD (`ood`)."""


def algorithm_1(net: nn.Module, membership: Membership) -> LossFn:
    """Return the loss that Algorithm 1 maximises over images (N, 3, H, W).

    In-distribution images minimise their cross-entropy to uniform, OOD images their entropy.
    """
    minimised = uniform_cross_entropy if membership == "id" else entropy

    def loss(images: Tensor) -> Tensor:
        return -minimised(net(images))

    return loss
