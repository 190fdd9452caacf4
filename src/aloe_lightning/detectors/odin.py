"""ODIN: temperature and an input step towards confidence (Liang, Li and Srikant, arXiv:1706.02690)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aloe_lightning.detectors.detector import FitData, Fitted, in_batches, of_softmax
from aloe_lightning.detectors.forward_pass import ForwardPass
from aloe_lightning.detectors.msp import max_softmax
from aloe_lightning.metrics import auroc, fpr_at_tpr
from aloe_lightning.runtime.seeding import generator

TEMPERATURES = (1.0, 10.0, 100.0, 1000.0)
ETAS = tuple(0.004 * step / 20 for step in range(21))
"""The paper's 21 evenly spaced magnitudes of an input step, in [0, 1] pixels."""


@dataclass(frozen=True, kw_only=True)
class ODIN:
    """S(x~; T) with x~ = x - eta * sign(-grad_x log S(x; T)) (eq. 6 and 7).

    The step is taken in [0, 1] pixels and not clipped, as the paper's code does. It is piecewise constant in x, so a
    gradient of the score flows through x~ with the step held fixed.

    Attributes:
        temperature: T; None: chosen among 1, 10, 100 and 1000 by the separation of training images from random noise.
        eta: size of the step in [0, 1] pixels; None: chosen likewise, among 21 values from 0 to 0.004. The paper's are
            0.0004 for GTSRB, 0.0014 for CIFAR-10 and 0.0028 for CIFAR-100.
        noise: images of each kind, training and noise, that the choice is made on; half the noise is Gaussian with
            mean 0.5 and deviation 1, cut to [0, 1], half is uniform in [0, 1].
        name: as records state it.
    """

    temperature: float | None = 1000.0
    eta: float | None = 0.0014
    noise: int = 1000
    name: str = "odin"

    @property
    def learns(self) -> bool:
        """Whether anything is to be chosen."""
        return self.temperature is None or self.eta is None

    def fit(self, net: nn.Module, data: FitData | None = None) -> Fitted:
        """Images -> calibrated confidence after the step."""
        if self.temperature is not None and self.eta is not None:
            temperature, eta = self.temperature, self.eta
        elif data is None:
            raise ValueError("ODIN without temperature or eta chooses them: it wants training images")
        else:
            temperature, eta = self._choose(net, data)

        return self._bound(net, temperature, eta)

    def restored(self, net: nn.Module, settings: Mapping[str, float | str], tensors: Mapping[str, Tensor]) -> Fitted:
        """The fit again, from what it has chosen."""
        return self._bound(net, float(settings["temperature"]), float(settings["eta"]))

    def _bound(self, net: nn.Module, temperature: float, eta: float) -> Fitted:
        def score(batch: ForwardPass) -> Tensor:
            if not eta:
                return max_softmax(batch.logits, temperature)
            stepped = ForwardPass(net, batch.images + eta * _step(batch, temperature))
            return max_softmax(stepped.logits, temperature)

        return of_softmax(net, score, steps=eta != 0, temperature=temperature, eta=eta)

    def _choose(self, net: nn.Module, data: FitData) -> tuple[float, float]:
        """The pair of least FPR at 95 % TPR between training images and noise; of equals the one of greatest AUROC."""
        sides = data.sample(data.inliers, self.noise, "odin"), random_noise(self.noise, data.seed)
        temperatures = TEMPERATURES if self.temperature is None else (self.temperature,)
        etas = ETAS if self.eta is None else (self.eta,)
        found: dict[tuple[float, float], tuple[float, float]] = {}
        for temperature in temperatures:
            scores: dict[float, list[list[Tensor]]] = {eta: [[], []] for eta in etas}
            for side, images in enumerate(sides):
                for batch in in_batches(images, data.batch_size, net):
                    step = _step(ForwardPass(net, batch), temperature)  # one gradient for all etas
                    with torch.no_grad():
                        for eta in etas:
                            scores[eta][side].append(max_softmax(net(batch + eta * step), temperature).cpu())
            for eta, (inside, outside) in scores.items():
                both = torch.cat(inside), torch.cat(outside)
                found[temperature, eta] = fpr_at_tpr(*both), -auroc(*both)
        return min(found, key=lambda pair: found[pair])


def _step(batch: ForwardPass, temperature: float) -> Tensor:
    """sign(grad_x log S(x; T)), the direction of more confidence: (N, 3, H, W) of -1, 0 and 1."""
    return batch.gradient_sign(lambda logits: (logits.float() / temperature).log_softmax(dim=1).amax(dim=1))


def random_noise(count: int, seed: int) -> Tensor:
    """Images of noise (count, 3, 32, 32) in [0, 1]: the first half Gaussian, cut to the range, the rest uniform."""
    draws = generator(seed, "noise")
    gaussian = torch.randn(count // 2, 3, 32, 32, generator=draws).add_(0.5).clamp_(0, 1)
    return torch.cat([gaussian, torch.rand(count - count // 2, 3, 32, 32, generator=draws)])
