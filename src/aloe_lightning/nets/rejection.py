"""The classifier in a net that has one class more: that of the outliers."""

from torch import Tensor, nn

from aloe_lightning.errors import UserError
from aloe_lightning.nets.classifier import Classifier
from aloe_lightning.nets.features import with_features


class RejectionNet(Classifier):
    """The classifier of K classes in a net of K + 1 outputs, of which the last is the rejection class, for outliers.

    Its logits are those of the K classes, so that accuracies and detectors on logits mean what they mean for other
    nets. The detector `Rejection` reads the last output.

    Args:
        net: images (N, 3, H, W) in [0, 1] -> logits (N, K + 1).
        num_classes: K.
    """

    def __init__(self, net: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.net, self.num_classes = net, num_classes

    def outputs(self, images: Tensor) -> Tensor:
        """Return logits (N, K + 1), the last of the rejection class; UserError if the net has another number."""
        outputs: Tensor = self.net(images)
        if outputs.shape[1] != self.num_classes + 1:
            raise UserError(
                f"a net with a rejection class has one output more than classes, {self.num_classes} + 1; "
                f"{type(self.net).__name__} has {outputs.shape[1]}"
            )
        return outputs

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the classes, (N, K)."""
        return self.outputs(images)[:, :-1]

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the features of the net."""
        return with_features(self.net).features(images)
