"""What a detector is: frozen settings whose `fit` returns a score function. Higher score = more in-distribution."""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor, nn

ScoreFn = Callable[[Tensor], Tensor]
"""Images (N, 3, H, W) in [0, 1] -> scores (N,), float64; higher = more in-distribution; differentiable in its input."""


class Detector(Protocol):
    """A score on top of a net. Nothing can score before `fit` returned, so no detector is ever "not fitted"."""

    name: str

    def fit(self, net: nn.Module) -> ScoreFn:
        """Bind the detector to a net in eval mode."""
        ...
