"""Free energy (Liu, Wang, Owens and Li, arXiv:2010.03759)."""

from dataclasses import dataclass

from torch import nn

from aloe_lightning.detectors.detector import Detector, FitData, Fitted
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import PositiveFloat


@checked
@dataclass(frozen=True, kw_only=True)
class Energy(Detector):
    """S(x) = T logsumexp(z / T), the negative free energy: higher = more in-distribution.

    Algorithm 1 attacks the softmax, which this score does not read: a transfer attack.

    Attributes:
        temperature: T.
    """

    temperature: PositiveFloat = 1.0

    def fit(self, net: nn.Module, data: FitData | None = None) -> Fitted:
        """Return the negative free energy of the net's logits; nothing is fitted."""
        return Fitted.attacked_through_softmax(
            net, lambda batch: self.temperature * (batch.logits.double() / self.temperature).logsumexp(dim=1)
        )
