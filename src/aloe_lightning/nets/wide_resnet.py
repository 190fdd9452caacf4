"""Wide residual nets for 32x32 images (Zagoruyko and Komodakis, arXiv:1605.07146)."""

from typing import ClassVar, final

import torch.nn.functional as F
from torch import Tensor, nn

from aloe_lightning.errors import UserError
from aloe_lightning.nets.classifier import Classifier, Normalize
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import Channels, Fraction, PositiveInt


class WideBlock(nn.Module):
    """BN-ReLU-conv3x3-BN-ReLU-dropout-conv3x3, added to its input.

    Where the number of channels changes, the shortcut is a 1x1 convolution of the input after its BN and ReLU.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        changes = in_channels != out_channels
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, out_channels, H / stride, W / stride)."""
        activated = F.relu(self.bn1(x))
        out: Tensor = self.conv2(self.dropout(F.relu(self.bn2(self.conv1(activated)))))
        return out + (x if self.shortcut is None else self.shortcut(activated))


@final
@checked
class WideResNet(Classifier):
    """WRN-depth-width: a 3x3 convolution and three stages of pre-activation blocks, the last two of stride 2.

    WRN-40-2 with dropout 0.3, the net of Outlier Exposure (arXiv:1812.04606), has 2,243,546 parameters at 10 classes.
    Convolutions are initialised by He's normal distribution, standard deviation sqrt(2 / fan_out), the weights of the
    last layer by PyTorch's default and its bias by zero.

    Args:
        num_classes: K.
        depth: number of layers, 6 n + 4 with n >= 1 blocks in each stage.
        width: factor of the channels, which are 16, 32 and 64 times it in the three stages.
        dropout: probability of dropout between the two convolutions of a block; in training only, not in attacks.
        mean: channel means of the training images in [0, 1].
        std: channel standard deviations of the training images.

    Raises:
        UserError: (a ValueError) if an argument is out of range or depth is not 6 n + 4.
    """

    never_waits: ClassVar[bool] = True

    def __init__(
        self,
        num_classes: PositiveInt,
        depth: PositiveInt = 40,
        width: PositiveInt = 2,
        dropout: Fraction = 0.3,
        mean: Channels = (0.5, 0.5, 0.5),
        std: Channels = (0.25, 0.25, 0.25),
    ) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise UserError(f"depth must be 6 n + 4 with n >= 1 (10, 16, 22, 28, 34, 40, ...); got {depth}")
        blocks = (depth - 4) // 6

        def stage(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
            first = WideBlock(in_channels, out_channels, stride, dropout)
            return nn.Sequential(first, *(WideBlock(out_channels, out_channels, 1, dropout) for _ in range(1, blocks)))

        self.normalize = Normalize(mean, std)
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.stage1 = stage(16, 16 * width, 1)
        self.stage2 = stage(16 * width, 32 * width, 2)
        self.stage3 = stage(32 * width, 64 * width, 2)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.fc = nn.Linear(64 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def _maps(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        first = self.conv1(self.normalize(images))
        second = self.stage1(first)
        third = self.stage2(second)
        return first, second, third, F.relu(self.bn1(self.stage3(third)))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, K) of images (N, 3, H, W) in [0, 1]."""
        logits: Tensor = self.fc(self._maps(images)[-1].mean((2, 3)))
        return logits

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the channel means after the first convolution, two stages and the last BN+ReLU, each (N, C_l)."""
        return [maps.mean((2, 3)) for maps in self._maps(images)]
