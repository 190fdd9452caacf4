"""A residual net small enough to train adversarially on two CPU cores in minutes."""

from typing import ClassVar, final

import torch.nn.functional as F
from torch import Tensor, nn

from aloe_lightning.nets.classifier import Classifier, Normalize
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import Channels, PositiveInt


class ResidualStage(nn.Module):
    """BN-ReLU-conv3x3 (stride 2)-BN-ReLU-conv3x3 and a strided 1x1 shortcut."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        out_channels = 2 * in_channels
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, 2 C, H / 2, W / 2)."""
        x = F.relu(self.bn1(x))
        out: Tensor = self.conv2(F.relu(self.bn2(self.conv1(x)))) + self.shortcut(x)
        return out


@final
@checked
class SmallNet(Classifier):
    """Pre-activation residual net: a 3x3 stem of `width` channels, doubled by each of three stride-2 stages.

    It has 303,706 parameters at width 16 and 10 classes. It serves development and results on a CPU; the paper's net is
    `DenseNet`.

    Args:
        num_classes: K.
        width: channels of the stem.
        mean: channel means of the training images in [0, 1].
        std: channel standard deviations of the training images.
    """

    never_waits: ClassVar[bool] = True

    def __init__(
        self,
        num_classes: PositiveInt,
        width: PositiveInt = 16,
        mean: Channels = (0.5, 0.5, 0.5),
        std: Channels = (0.25, 0.25, 0.25),
    ) -> None:
        super().__init__()
        self.normalize = Normalize(mean, std)
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.stage1 = ResidualStage(width)
        self.stage2 = ResidualStage(2 * width)
        self.stage3 = ResidualStage(4 * width)
        self.bn1 = nn.BatchNorm2d(8 * width)
        self.fc = nn.Linear(8 * width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

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
        """Return the channel means of the stem's, both inner stages' and the last ReLU's maps, each (N, C_l)."""
        return [maps.mean((2, 3)) for maps in self._maps(images)]
