"""The fewest operations and bytes that a training step needs, counted from the net's layers."""

from dataclasses import dataclass

import torch
from torch import nn

from aloe_lightning.nets.densenet import Transition
from aloe_lightning.objectives import Objective


@dataclass(frozen=True)
class Work:
    """Of one image's forward pass.

    Attributes:
        flops: of convolutions and the linear layer, two for each product; a 1x1 convolution before an average over 2x2
            pixels counts at the lower resolution, for the two commute.
        values: what convolutions and BatchNorm layers read and write, each value once.
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
            found = 2 * output.numel() * module.weight[0].numel()
            flops += found / 4 if module in pooled else found
            values += output.numel()  # written here; what it reads, the BatchNorm before it has
        elif isinstance(module, nn.BatchNorm2d):
            values += inputs[0].numel()
        elif isinstance(module, nn.Linear):
            flops += 2 * output.numel() * module.in_features

    handles = [module.register_forward_hook(count) for module in net.modules()]
    was, net.fused = getattr(net, "fused", None), False
    with torch.no_grad():
        net.eval()(torch.rand(1, 3, side, side, device=next(net.parameters()).device))
    net.fused = was
    for handle in handles:
        handle.remove()
    return Work(flops, values)


def step_passes(objective: type[Objective], inliers: int, outliers: int, steps: int = 2) -> float:
    """Forward passes of one image that a training step amounts to.

    A pass of the inner maximisation is one forward and one backward to the input (as much again); the pass that trains
    is three: its backward has the input's and the weights' gradients.
    """
    attacked = inliers * objective.perturbs_inliers + outliers * objective.perturbs_outliers
    return 2 * steps * attacked + 3 * (inliers + outliers * objective.uses_outliers)
