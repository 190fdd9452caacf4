"""Maximum softmax probability (Hendrycks and Gimpel, arXiv:1610.02136)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from aloe_lightning.detectors.detector import FitData, Fitted, of_softmax


def max_softmax(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """S(x; T) = max_i softmax(z / T)_i, computed in float64: float32 saturates at 1 and makes ties.

    Args:
        logits: (N, K).
        temperature: T, above 0.

    Returns:
        (N,) in [1/K, 1]; higher = more in-distribution.
    """
    return (logits.double() / temperature).softmax(dim=1).amax(dim=1)


@dataclass(frozen=True, kw_only=True)
class MSP:
    """S(x) = max_i F_i(x) (eq. 5)."""

    name: str = "msp"
    learns: ClassVar[bool] = False

    def fit(self, net: nn.Module, data: FitData | None = None) -> Fitted:
        """Nothing to fit: images -> max softmax probability of the net."""
        return of_softmax(net, lambda batch: max_softmax(batch.logits))
