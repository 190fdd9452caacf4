"""Lower bounds of a training step: the operations and bytes that the net's layers need at least."""

from dataclasses import dataclass

import torch
from torch import nn

from aloe_lightning.nets.densenet import Transition
from aloe_lightning.objectives import Objective


@dataclass(frozen=True)
class Work:
    """Work of one image's forward pass.

    Attributes:
        flops: of convolutions and the linear layer, two for each product; a 1x1 convolution before an average over 2x2
            pixels is counted at the lower resolution, because the two commute.
        values: values that convolutions and BatchNorm layers read and write, each counted once.
    """

    flops: float
    values: float


def forward_work(net: nn.Module, side: int = 32) -> Work:
    """Count a net's forward pass with hooks on its layers."""
    flops = values = 0.0
    pooled = {module.conv1 for module in net.modules() if isinstance(module, Transition)}

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal flops, values
        if isinstance(module, nn.Conv2d):
            products = output.numel() * module.weight[0].numel()
            flops += 2 * products / 4 if module in pooled else 2 * products
            values += output.numel()  # written; its input is counted with the BatchNorm before it
        elif isinstance(module, nn.BatchNorm2d):
            values += inputs[0].numel()
        elif isinstance(module, nn.Linear):
            flops += 2 * output.numel() * module.in_features

    handles = [module.register_forward_hook(count) for module in net.modules()]
    fused, net.fused = getattr(net, "fused", None), False  # hooks see the layers only one by one
    with torch.no_grad():
        net.eval()(torch.rand(1, 3, side, side, device=next(net.parameters()).device))
    net.fused = fused
    for handle in handles:
        handle.remove()
    return Work(flops, values)


def step_passes(objective: type[Objective], inliers: int, outliers: int, steps: int = 2) -> float:
    """Return the work of a training step in forward passes of one image.

    A step of the inner maximisation counts as two, forward and backward to the input; the training pass counts as
    three, because its backward pass computes the gradients of inputs and weights.
    """
    attacked = inliers * objective.perturbs_inliers + outliers * objective.perturbs_outliers
    return 2 * steps * attacked + 3 * (inliers + outliers * objective.uses_outliers)
