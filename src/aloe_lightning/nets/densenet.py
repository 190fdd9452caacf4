"""DenseNet-BC for 32x32 images (Huang et al., arXiv:1608.06993), with the parameter names of the authors' code."""

import math
from collections.abc import Callable
from typing import Annotated, ClassVar, Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aloe_lightning.errors import UserError
from aloe_lightning.kernels import frozen_dense_block, fused_dense_block, has_kernels
from aloe_lightning.nets.classifier import Classifier, Normalize
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import NO_EFFECT, Channels, PositiveFraction, PositiveInt


class Bottleneck(nn.Module):
    """BN-ReLU-conv1x1-BN-ReLU-conv3x3, concatenated to its input."""

    def __init__(self, in_channels: int, growth_rate: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, 4 * growth_rate, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(4 * growth_rate)
        self.conv2 = nn.Conv2d(4 * growth_rate, growth_rate, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C + growth_rate, H, W)."""
        out = self.conv1(F.relu(self.bn1(x)))
        out = self.conv2(F.relu(self.bn2(out)))
        return torch.cat([x, out], 1)


class DenseBlock(nn.Module):
    """A sequence of bottlenecks; each reads the block's input and the outputs of all bottlenecks before it."""

    def __init__(self, num_layers: int, in_channels: int, growth_rate: int) -> None:
        super().__init__()
        self.layer = nn.Sequential(*(Bottleneck(in_channels + i * growth_rate, growth_rate) for i in range(num_layers)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C + num_layers * growth_rate, H, W)."""
        out: Tensor = self.layer(x)
        return out


class Transition(nn.Module):
    """BN-ReLU-conv1x1, then 2x2 average pooling: fewer channels, half the resolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, out_channels, H / 2, W / 2)."""
        return F.avg_pool2d(self.conv1(F.relu(self.bn1(x))), 2)


@final
@checked
class DenseNet(Classifier):
    """DenseNet-BC: three dense blocks with bottlenecks and compressing transitions.

    The paper's net has depth 100, growth rate 12 and reduction 0.5: 769,162 parameters at 10 classes.

    Args:
        num_classes: K.
        depth: number of layers, 6 n + 4 with n >= 1 bottlenecks in each block.
        growth_rate: channels that each bottleneck adds.
        reduction: share of the channels that a transition keeps, in (0, 1].
        mean: channel means of the training images in [0, 1].
        std: channel standard deviations of the training images.
        init: standard deviation of the convolutions' initial weights: `kaiming` is sqrt(2 / fan_out); `authors` is
            sqrt(2 / n), as in the paper's code, which reuses a variable name by mistake (docs/decisions/003).
        fused: run each dense block as one operation (`fused_dense_block`, `frozen_dense_block`) instead of layer by
            layer; results are the same up to rounding (docs/decisions/012). None: yes where compiled kernels exist, on
            a CPU with a C++ compiler; elsewhere layer by layer is faster.

    Raises:
        UserError: (a ValueError) if an argument is out of range or depth is not 6 n + 4.
    """

    never_waits: ClassVar[bool] = True

    def __init__(
        self,
        num_classes: PositiveInt,
        depth: PositiveInt = 100,
        growth_rate: PositiveInt = 12,
        reduction: PositiveFraction = 0.5,
        mean: Channels = (0.5, 0.5, 0.5),
        std: Channels = (0.25, 0.25, 0.25),
        init: Literal["kaiming", "authors"] = "kaiming",
        fused: Annotated[bool | None, NO_EFFECT] = None,
    ) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise UserError(f"depth must be 6 n + 4 with n >= 1 (10, 16, 22, ... 100); got {depth}")
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

    def _block_operation(self) -> Callable[..., Tensor] | None:
        """Return the operation that runs a dense block as a whole; None: run it layer by layer."""
        compiled = self.fused is not False and has_kernels(self.bn1)
        if self.bn1.training:
            return fused_dense_block if self.fused or compiled else None
        needs_gradients = torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters())
        return frozen_dense_block if compiled and not needs_gradients else None

    def _maps(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the maps after conv1, both transitions, and the last BN+ReLU (averaged to one pixel if fused)."""
        first = self.conv1(self.normalize(images))
        block = self._block_operation()
        if block is not None:
            # Averages over 2x2 pixels and 1x1 convolutions commute; in this order they need a quarter of the products.
            second = self.trans1.conv1(block(first, self.block1.layer, self.trans1.bn1, 2))
            third = self.trans2.conv1(block(second, self.block2.layer, self.trans2.bn1, 2))
            return first, second, third, block(third, self.block3.layer, self.bn1, third.shape[2])
        second = self.trans1(self.block1(first))
        third = self.trans2(self.block2(second))
        return first, second, third, F.relu(self.bn1(self.block3(third)))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, K) of images (N, 3, 32, 32) in [0, 1]."""
        logits: Tensor = self.fc(self._maps(images)[-1].mean((2, 3)))
        return logits

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the channel means after conv1, trans1, trans2 and the last BN+ReLU, each (N, C_l)."""
        return [maps.mean((2, 3)) for maps in self._maps(images)]
