"""A net, a score, an attack and a detector from outside the package, evaluated together."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aloe_lightning.detectors import Detector, FitData, Fitted
from aloe_lightning.robustness import evaluate


class Net(nn.Module):
    """Images (N, 3, 48, 48) in [0, 1] to five logits."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
        self.head = nn.Linear(128, 5)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, 5)."""
        return self.head(self.layers(images))


def smoothness(images: Tensor) -> Tensor:
    """Return a score (N,): minus the mean difference between neighbouring pixels."""
    return -(images[..., 1:] - images[..., :-1]).abs().mean((1, 2, 3))


@dataclass(frozen=True)
class OneStep:
    """The fast gradient sign method: one step of the whole budget."""

    epsilon: float = 2.0

    def describe(self) -> str:
        """Return the settings except epsilon."""
        return "one gradient step of epsilon"

    def __call__(self, images: Tensor, loss: object, *, start: object = None, generator: object = None) -> Tensor:
        """Perturb images (N, 3, H, W) in [0, 1]."""
        x = images.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(x).sum(), x)
        return (images + self.epsilon / 255 * gradient.sign()).clamp(0, 1)


class LargestDifference(Detector):
    """S(x) = the difference between the largest and the smallest logit."""

    def fit(self, net: nn.Module, data: FitData | None = None) -> Fitted:
        """Return the score; attacked by Algorithm 1."""
        return Fitted.attacked_through_softmax(net, lambda batch: batch.logits.amax(1) - batch.logits.amin(1))


if __name__ == "__main__":
    torch.manual_seed(0)
    images, labels = torch.rand(40, 3, 48, 48), torch.arange(40) % 5
    ood = {"dark": torch.rand(30, 3, 48, 48) / 2}
    print(evaluate(Net(), (images, labels), ood, detectors=("msp", LargestDifference()), attack=OneStep()).table().T)
    print(evaluate(smoothness, images, ood, eps=4, preset="paper").table().T)
