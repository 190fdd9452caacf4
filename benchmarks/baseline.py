"""The authors' training step and evaluation, reimplemented: the baseline of every ratio.

It keeps what makes their code slow. A training step has forward passes with unused outputs, computes all weight
gradients in the inner maximisation, passes inliers and outliers separately, and normalises image by image in a Python
loop, in float32 and contiguous NCHW. An evaluation attacks ten images at a time, and the in-distribution images again
for every OOD set.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from aloe_lightning.losses import cross_entropy, entropy, uniform_cross_entropy

Loss = Callable[[Tensor], Tensor]


class LoopNormalize(nn.Module):
    """Normalisation of one image at a time."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.mean, self.std = mean, std

    def forward(self, images: Tensor) -> Tensor:
        """Normalise images (N, 3, H, W)."""
        return torch.cat([(image - self.mean) / self.std for image in images.split(1)])


def without_optimisations(net: nn.Module) -> nn.Module:
    """Let the net run layer by layer and normalise in a loop; return it."""
    net.fused = False
    normalize = net.normalize
    net.normalize = LoopNormalize(normalize.mean.clone(), normalize.std.clone())
    return net


def perturbed(net: nn.Module, images: Tensor, loss_of: Loss, steps: int) -> Tensor:
    """Perturb images by projected gradient ascent at epsilon 1, with all weight gradients in each backward pass."""
    net(images)  # the unused clean pass
    delta = torch.zeros_like(images)
    for _ in range(steps):
        x = (images + delta).requires_grad_(True)
        loss = loss_of(net(x)).mean()
        net.zero_grad()
        loss.backward()
        delta = (delta + x.grad.sign() / 255).clamp(-1 / 255, 1 / 255)
    return (images + delta).clamp(0, 1)


def training_step(
    objective: str, net: nn.Module, inliers: Tensor, labels: Tensor, outliers: Tensor, sgd: torch.optim.Optimizer
) -> None:
    """Make one training step of an objective at epsilon 1."""
    x, o = inliers, outliers
    if objective in ("ADV", "AOE", "ALOE"):
        x = perturbed(net, inliers, lambda z: cross_entropy(z, labels), 2)
    if objective == "ALOE":
        o = perturbed(net, outliers, uniform_cross_entropy, 2)
    loss = cross_entropy(net(x), labels).mean()
    if objective in ("OE", "AOE", "ALOE"):
        loss = loss + 0.5 * uniform_cross_entropy(net(o)).mean()
    sgd.zero_grad()
    loss.backward()
    sgd.step()


def evaluation(net: nn.Module, inliers: Tensor, ood: Mapping[str, Tensor], batch: int = 10) -> None:
    """Score every OOD set and the in-distribution images with MSP and ODIN, clean and attacked."""

    def attacked(images: Tensor, loss_of: Loss) -> None:
        for part in images.split(batch):
            scores(net, perturbed(net, part, loss_of, 10))

    net.eval()
    for outliers in ood.values():
        for part in torch.cat([inliers, outliers]).split(batch):
            scores(net, part)
        attacked(inliers, lambda z: -uniform_cross_entropy(z))
        attacked(outliers, lambda z: -entropy(z))


def scores(net: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scores of MSP and ODIN (T = 1000, eta = 0.0014), each (N,)."""
    x = images.clone().requires_grad_(True)
    logits = net(x)
    net.zero_grad()
    (logits / 1000).log_softmax(1).amax(1).sum().backward()
    with torch.no_grad():
        odin = (net(x + 0.0014 * x.grad.sign()) / 1000).softmax(1).amax(1)
    return logits.softmax(1).amax(1), odin
