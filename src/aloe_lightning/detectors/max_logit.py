"""Maximum logit (Hendrycks et al., arXiv:1911.11132)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from aloe_lightning.detectors.detector import FitData, Fitted, of_softmax


@dataclass(frozen=True, kw_only=True)
class MaxLogit:
    """S(x) = max_i z_i: higher = more in-distribution.

    Under Algorithm 1 it is scored on images crafted against the softmax: a transfer attack.
    """

    name: str = "max_logit"
    learns: ClassVar[bool] = False

    def fit(self, net: nn.Module, data: FitData | None = None) -> Fitted:
        """Nothing to fit: images -> the largest logit of the net."""
        return of_softmax(net, lambda batch: batch.logits.double().amax(dim=1))
