"""What the authors' ALOE step does, written afresh: the yardstick of every speed figure.

Four forward and three full backward passes an image: a clean pass whose output nobody uses, two steps of the inner
maximisation with all weight gradients computed, the pass that trains; inliers and outliers apart; normalisation image
by image in a Python loop; float32, contiguous NCHW.
"""

import torch
from torch import Tensor, nn

from aloe_lightning.losses import cross_entropy, uniform_cross_entropy


class LoopNormalize(nn.Module):
    """Normalise one image at a time."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> the same shape."""
        return torch.cat([(image - self.mean) / self.std for image in images.split(1)])


def with_loop_normalisation(net: nn.Module) -> nn.Module:
    """The net with its first layer replaced."""
    normalize = net.normalize
    net.normalize = LoopNormalize(normalize.mean.clone(), normalize.std.clone())
    return net


def aloe_step(net: nn.Module, inliers: Tensor, labels: Tensor, outliers: Tensor, sgd: torch.optim.Optimizer) -> None:
    """One ALOE training step at epsilon 1."""

    def perturbed(images: Tensor, loss_of: object) -> Tensor:
        net(images)  # the clean pass
        delta = torch.zeros_like(images)
        for _ in range(2):
            x = (images + delta).requires_grad_(True)
            loss = loss_of(net(x)).mean()
            net.zero_grad()
            loss.backward()
            delta = (delta + x.grad.sign() / 255).clamp(-1 / 255, 1 / 255)
        return (images + delta).clamp(0, 1)

    x = perturbed(inliers, lambda z: cross_entropy(z, labels))
    o = perturbed(outliers, uniform_cross_entropy)
    loss = cross_entropy(net(x), labels).mean() + 0.5 * uniform_cross_entropy(net(o)).mean()
    sgd.zero_grad()
    loss.backward()
    sgd.step()
