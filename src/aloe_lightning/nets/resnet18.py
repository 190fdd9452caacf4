"""ResNet-18 for 32x32 images (He et al., arXiv:1512.03385), the usual net of work on robust OOD detection."""

from typing import ClassVar, final

from torch import Tensor, nn

from aloe_lightning.nets.classifier import Classifier, Normalize
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import Channels, PositiveInt


@final
@checked
class ResNet18(Classifier):
    """ResNet-18 with the stem for small images: a 3x3 convolution of stride 1, and no max-pooling.

    The blocks are torchvision's basic blocks (conv-BN-ReLU-conv-BN, addition, ReLU), as in OpenOOD and HALO, not
    pre-activation blocks. It has 11,173,962 parameters at 10 classes. Convolutions are initialised by He's normal
    distribution, standard deviation sqrt(2 / fan_out), the last layer by PyTorch's default.

    Args:
        num_classes: K.
        mean: channel means of the training images in [0, 1].
        std: channel standard deviations of the training images.
    """

    never_waits: ClassVar[bool] = True

    def __init__(
        self,
        num_classes: PositiveInt,
        mean: Channels = (0.5, 0.5, 0.5),
        std: Channels = (0.25, 0.25, 0.25),
    ) -> None:
        from torchvision.models import resnet18

        super().__init__()
        self.normalize = Normalize(mean, std)
        self.net = resnet18(num_classes=num_classes)
        self.net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(self.net.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.net.maxpool = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, K) of images (N, 3, H, W) in [0, 1]."""
        logits: Tensor = self.net(self.normalize(images))
        return logits

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the channel means after the stem and each of the four stages: (N, C), C = 64, 64, 128, 256, 512."""
        maps = [self.net.relu(self.net.bn1(self.net.conv1(self.normalize(images))))]
        for stage in (self.net.layer1, self.net.layer2, self.net.layer3, self.net.layer4):
            maps.append(stage(maps[-1]))
        return [values.mean((2, 3)) for values in maps]
