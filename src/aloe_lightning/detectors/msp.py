"""Maximum softmax probability (Hendrycks and Gimpel, arXiv:1610.02136)."""

from dataclasses import dataclass

from torch import Tensor, nn

from aloe_lightning.attacks import log_odds
from aloe_lightning.detectors.detector import Detector, FitData, Fitted
from aloe_lightning.signatures.checked import checked


def max_softmax(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return S(x; T) = max_i softmax(z / T)_i, computed in float64: float32 saturates at 1 and makes ties.

    Args:
        logits: (N, K).
        temperature: T, above 0.

    Returns:
        (N,) in [1/K, 1]; higher = more in-distribution.
    """
    return (logits.double() / temperature).softmax(dim=1).amax(dim=1)


@checked
@dataclass(frozen=True, kw_only=True)
class MSP(Detector):
    """S(x) = max_i F_i(x) (eq. 5)."""

    def fit(self, net: nn.Module, data: FitData | None = None) -> Fitted:
        """Return the maximum softmax probability of the net; nothing is fitted."""
        return Fitted.attacked_through_softmax(
            net, lambda batch: max_softmax(batch.logits), objective=lambda batch: log_odds(batch.logits)
        )
