"""DenseNet-BC for 32x32 images (Huang et al., arXiv:1608.06993), with the parameter names of the paper's code."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aloe_lightning.kernels.dense_block import feature_type, fused_dense_block
from aloe_lightning.kernels.frozen_block import frozen_dense_block
from aloe_lightning.kernels.operations import kernels_for
from aloe_lightning.nets.normalize import Normalize


class Bottleneck(nn.Module):
    """BN-ReLU-conv1x1-BN-ReLU-conv3x3, concatenated to its input: (N, C, H, W) -> (N, C + growth_rate, H, W)."""

    def __init__(self, in_channels: int, growth_rate: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, 4 * growth_rate, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth_rate)
        self.conv2 = nn.Conv2d(4 * growth_rate, growth_rate, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C + growth_rate, H, W)."""
        out = self.conv1(F.relu(self.bn1(x)))
        out = self.conv2(F.relu(self.bn2(out)))
        return torch.cat([x, out], 1)


class DenseBlock(nn.Module):
    """`num_layers` bottlenecks in a row; each sees the outputs of all before it."""

    def __init__(self, num_layers: int, in_channels: int, growth_rate: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(*(Bottleneck(in_channels + i * growth_rate, growth_rate) for i in range(num_layers)))

    def bottlenecks(self) -> list[Bottleneck]:
        """In the order of the data."""
        return [module for module in self.layer if isinstance(module, Bottleneck)]

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C + num_layers * growth_rate, H, W)."""
        out: Tensor = self.layer(x)
        return out


class Transition(nn.Module):
    """BN-ReLU-conv1x1, then 2x2 average pooling: fewer channels, half the resolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out_channels, H / 2, W / 2)."""
        return F.avg_pool2d(self.conv1(F.relu(self.bn1(x))), 2)


class DenseNet(nn.Module):
    """DenseNet-BC: three dense blocks with bottlenecks and compressing transitions.

    The paper's net is depth 100, growth rate 12, reduction 0.5: 769,162 parameters at 10 classes.

    Args:
        num_classes: K.
        depth: number of layers; (depth - 4) must divide by 6.
        growth_rate: channels each bottleneck adds.
        reduction: share of the channels a transition keeps, in (0, 1].
        mean: channel means of the training images in [0, 1].
        std: channel standard deviations of the training images.
        init: of the convolutions. `kaiming` draws them with std sqrt(2 / fan_out); `authors` with sqrt(2 / layers per
            block), as the paper's code does through a reused variable name (docs/decisions/003).
        fused: run each dense block as one operation on one buffer (`fused_dense_block`, `frozen_dense_block`), not layer by
            layer: the same results up to rounding (docs/decisions/012). None for yes where it has kernels, on a CPU
            with a C++ compiler; elsewhere layer by layer is faster.

    Raises:
        ValueError: if depth does not fit three blocks of bottlenecks.
    """

    def __init__(
        self,
        num_classes: int,
        depth: int = 100,
        growth_rate: int = 12,
        reduction: float = 0.5,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.25, 0.25, 0.25),
        init: Literal["kaiming", "authors"] = "kaiming",
        fused: bool | None = None,
    ) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"depth must be 6 n + 4 with n >= 1 (10, 16, 22, ... 100); got {depth}")
        self.fused = fused
        num_layers = (depth - 4) // 6
        channels = 2 * growth_rate
        self.normalize = Normalize(mean, std)
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        self.block1 = DenseBlock(num_layers, channels, growth_rate)
        channels += num_layers * growth_rate
        self.trans1 = Transition(channels, channels := math.floor(channels * reduction))
        self.block2 = DenseBlock(num_layers, channels, growth_rate)
        channels += num_layers * growth_rate
        self.trans2 = Transition(channels, channels := math.floor(channels * reduction))
        self.block3 = DenseBlock(num_layers, channels, growth_rate)
        channels += num_layers * growth_rate
        self.bn1 = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
                nn.init.normal_(module.weight, 0, math.sqrt(2 / (fan_out if init == "kaiming" else num_layers)))
        nn.init.zeros_(self.fc.bias)

    def _stage(self, device: torch.device) -> Callable[..., Tensor] | None:
        """What runs a dense block as one operation, if anything does."""
        compiled = self.fused is not False and kernels_for(device, feature_type(self.bn1))
        if self.bn1.training and (self.fused or compiled):
            return fused_dense_block
        learns = torch.is_grad_enabled() and any(parameter.requires_grad for parameter in self.parameters())
        return frozen_dense_block if compiled and not self.bn1.training and not learns else None

    def _maps(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The maps that detectors look at: after conv1, both transitions, and the last BN+ReLU (pooled if fused)."""
        first = self.conv1(self.normalize(images))
        stage = self._stage(first.device)
        if stage is not None:
            # Averages over 2x2 pixels and 1x1 convolutions commute; in this order a quarter of the products is left.
            second = self.trans1.conv1(stage(first, self.block1.bottlenecks(), self.trans1.bn1, 2))
            third = self.trans2.conv1(stage(second, self.block2.bottlenecks(), self.trans2.bn1, 2))
            return first, second, third, stage(third, self.block3.bottlenecks(), self.bn1, third.shape[2])
        second = self.trans1(self.block1(first))
        third = self.trans2(self.block2(second))
        return first, second, third, F.relu(self.bn1(self.block3(third)))

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, 32, 32) in [0, 1] -> logits (N, K)."""
        logits: Tensor = self.fc(self._maps(images)[-1].mean((2, 3)))
        return logits

    def features(self, images: Tensor) -> list[Tensor]:
        """Images (N, 3, 32, 32) in [0, 1] -> channel means of the four maps, each (N, C_l)."""
        return [m.mean((2, 3)) for m in self._maps(images)]
