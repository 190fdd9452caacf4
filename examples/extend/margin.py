"""A detector in one file: the margin between the two most probable classes.

PYTHONPATH=examples/extend python -m aloe_lightning objective=oe '+detector.margin={_target_: margin.Margin}'
"""

from dataclasses import dataclass

from torch import Tensor, nn

from aloe_lightning.detectors import Detector, FitData, Fitted, ForwardPass
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import PositiveFloat


@checked
@dataclass(frozen=True, kw_only=True)
class Margin(Detector):
    """S(x) = p_1 - p_2, the difference of the two largest softmax probabilities: higher = more in-distribution.

    It reads the softmax and is therefore attacked by Algorithm 1.

    Attributes:
        temperature: T of the softmax.
    """

    temperature: PositiveFloat = 1.0

    def fit(self, net: nn.Module, data: FitData | None = None) -> Fitted:
        """Return the fitted detector; there is nothing to fit."""

        def score(batch: ForwardPass) -> Tensor:
            top = (batch.logits.double() / self.temperature).softmax(dim=1).topk(2, dim=1).values
            return top[:, 0] - top[:, 1]

        return Fitted.attacked_through_softmax(net, score)
