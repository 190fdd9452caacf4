"""Free energy (Liu, Wang, Owens and Li, arXiv:2010.03759)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from aloe_lightning.detectors.detector import FitData, Fitted, of_softmax


@dataclass(frozen=True, kw_only=True)
class Energy:
    """S(x) = T logsumexp(z / T), the negative free energy: higher = more in-distribution.

    Under Algorithm 1 it is scored on images crafted against the softmax, which it does not read: a transfer attack.

    Attributes:
        temperature: T, above 0.
        name: as records state it.
    """

    temperature: float = 1.0
    name: str = "energy"
    learns: ClassVar[bool] = False

    def fit(self, net: nn.Module, data: FitData | None = None) -> Fitted:
        """Nothing to fit: images -> negative free energy of the net's logits."""
        return of_softmax(
            net, lambda batch: self.temperature * (batch.logits.double() / self.temperature).logsumexp(dim=1)
        )
