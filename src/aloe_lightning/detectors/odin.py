"""ODIN: temperature and an input step towards confidence (Liang, Li and Srikant, arXiv:1706.02690)."""

from dataclasses import dataclass

from torch import Tensor, nn

from aloe_lightning.attacks import attackable, gradient_sign
from aloe_lightning.detectors.detector import ScoreFn
from aloe_lightning.detectors.msp import max_softmax


@dataclass(frozen=True, kw_only=True)
class ODIN:
    """S(x~; T) with x~ = x - eta * sign(-grad_x log S(x; T)) (eq. 6 and 7).

    The step is taken in [0, 1] pixels and not clipped, as the paper's code does. It is piecewise constant in x, so a
    gradient of the score flows through x~ with the step held fixed.

    Attributes:
        temperature: T.
        eta: size of the step in [0, 1] pixels; the paper's are 0.0004 for GTSRB, 0.0014 for CIFAR-10 and 0.0028 for
            CIFAR-100.
        name: as records state it.
    """

    temperature: float = 1000.0
    eta: float = 0.0014
    name: str = "odin"

    def fit(self, net: nn.Module) -> ScoreFn:
        """Nothing to fit: images -> calibrated confidence after the step."""

        def log_confidence(x: Tensor) -> Tensor:
            log_p: Tensor = (net(x).float() / self.temperature).log_softmax(dim=1)
            return log_p.amax(dim=1)

        def score(images: Tensor) -> Tensor:
            with attackable(net):
                step = self.eta * gradient_sign(images, log_confidence)
            return max_softmax(net(images + step), self.temperature)

        return score
