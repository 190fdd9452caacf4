"""Maximum logit (Hendrycks et al., arXiv:1911.11132)."""

from dataclasses import dataclass

from torch import nn

from aloe_lightning.detectors.detector import Detector, FitData, Fitted
from aloe_lightning.signatures.checked import checked


@checked
@dataclass(frozen=True, kw_only=True)
class MaxLogit(Detector):
    """S(x) = max_i z_i: higher = more in-distribution.

    Algorithm 1 attacks the softmax, which this score does not read: a transfer attack.
    """

    def fit(self, net: nn.Module, data: FitData | None = None) -> Fitted:
        """Return the largest logit of the net; nothing is fitted."""
        return Fitted.attacked_through_softmax(net, lambda batch: batch.logits.double().amax(dim=1))
