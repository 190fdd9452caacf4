"""Detectors that read the logits alone: nothing is fitted, and Algorithm 1 attacks all of them.

It attacks the softmax, which MaxLogit and Energy do not read: for these it is a transfer attack.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from aloe_lightning.attacks import log_odds
from aloe_lightning.detectors.detector import Detector, FitData, Fitted
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import PositiveFloat


def max_softmax(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return S(x; T) = max_i softmax(z / T)_i of logits z (N, K): (N,) in [1/K, 1]; higher = more in-distribution.

    It is computed in float64: float32 saturates at 1 and makes ties.
    """
    return (logits.double() / temperature).softmax(dim=1).amax(dim=1)


class LogitsDetector(Detector):
    """A score of the logits."""

    @abstractmethod
    def score(self, logits: Tensor) -> Tensor:
        """Score logits (N, K) in float64: (N,), higher = more in-distribution."""

    def objective(self, logits: Tensor) -> Tensor:
        """Return a strictly increasing function of the score that does not saturate: (N, K) -> (N,) in float64."""
        return self.score(logits)

    def fit(self, net: nn.Module, data: FitData | None = None) -> Fitted:
        """Return the score of the net's logits; nothing is fitted."""
        return Fitted.attacked_through_softmax(
            net,
            lambda batch: self.score(batch.logits.double()),
            objective=lambda batch: self.objective(batch.logits.double()),
        )


@checked
@dataclass(frozen=True, kw_only=True)
class MSP(LogitsDetector):
    """Maximum softmax probability (Hendrycks and Gimpel, arXiv:1610.02136): S(x) = max_i F_i(x) (eq. 5)."""

    def score(self, logits: Tensor) -> Tensor:
        """Return the maximum softmax probability."""
        return max_softmax(logits)

    def objective(self, logits: Tensor) -> Tensor:
        """Return the log-odds of that probability."""
        return log_odds(logits)


@checked
@dataclass(frozen=True, kw_only=True)
class MaxLogit(LogitsDetector):
    """Maximum logit (Hendrycks et al., arXiv:1911.11132): S(x) = max_i z_i."""

    def score(self, logits: Tensor) -> Tensor:
        """Return the largest logit."""
        return logits.amax(dim=1)


@checked
@dataclass(frozen=True, kw_only=True)
class Energy(LogitsDetector):
    """Negative free energy (Liu, Wang, Owens and Li, arXiv:2010.03759): S(x) = T logsumexp(z / T).

    Attributes:
        temperature: T.
    """

    reads_energy: ClassVar[bool] = True

    temperature: PositiveFloat = 1.0

    def score(self, logits: Tensor) -> Tensor:
        """Return the negative free energy."""
        return self.temperature * (logits / self.temperature).logsumexp(dim=1)
