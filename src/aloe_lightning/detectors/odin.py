"""ODIN: temperature and an input step towards confidence (Liang, Li and Srikant, arXiv:1706.02690)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aloe_lightning.attacks import frozen_eval, log_odds
from aloe_lightning.detectors.detector import CacheableDetector, FitData, Fitted, device_batches
from aloe_lightning.detectors.forward_pass import ForwardPass
from aloe_lightning.detectors.logits import max_softmax
from aloe_lightning.metrics import auroc, fpr_at_tpr
from aloe_lightning.runtime.seeding import generator
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import NonNegativeFloat, PositiveFloat, PositiveInt

TEMPERATURES = (1.0, 10.0, 100.0, 1000.0)
ETAS = tuple(0.004 * step / 20 for step in range(21))
"""The paper's 21 evenly spaced magnitudes of an input step, in [0, 1] pixels."""


@checked
@dataclass(frozen=True, kw_only=True)
class ODIN(CacheableDetector):
    """S(x~; T) with x~ = x - eta * sign(-grad_x log S(x; T)) (eq. 6 and 7).

    The step is taken in [0, 1] pixels and not clipped, as in the paper's code. It is piecewise constant in x, so a
    gradient of the score flows through x~ with the step held fixed.

    Attributes:
        temperature: T; null chooses among 1, 10, 100 and 1000 by the separation of training images from random noise.
        eta: size of the step in [0, 1] pixels; null chooses likewise, among 21 values from 0 to 0.004. The paper's are
            0.0004 for GTSRB, 0.0014 for CIFAR-10 and 0.0028 for CIFAR-100.
        noise: number of training images, and of noise images, for the choice; half the noise is Gaussian with mean 0.5
            and deviation 1, clipped to [0, 1], half is uniform in [0, 1].
    """

    temperature: PositiveFloat | None = 1000.0
    eta: NonNegativeFloat | None = 0.0014
    noise: PositiveInt = 1000

    @property
    def requires_fit(self) -> bool:
        """True if temperature or step is to be chosen."""
        return self.temperature is None or self.eta is None

    @property
    def title(self) -> str:
        """The detector's name in tables."""
        return "ODIN (tuned)" if self.requires_fit else "ODIN"

    def fit(self, net: nn.Module, data: FitData | None = None) -> Fitted:
        """Return the calibrated confidence after the step; choose what is not given."""
        temperature, eta = self.temperature, self.eta
        if temperature is None or eta is None:
            if data is None:
                raise ValueError("ODIN without temperature or eta requires training images to choose them")
            with frozen_eval(net):
                temperature, eta = self._choose(net, data)
        return self.from_state(net, {"temperature": temperature, "eta": eta}, {})

    def from_state(self, net: nn.Module, settings: Mapping[str, float | str], tensors: Mapping[str, Tensor]) -> Fitted:
        """Bind the detector with the temperature and step of the settings; there are no tensors."""
        temperature, eta = float(settings["temperature"]), float(settings["eta"])

        def stepped_logits(batch: ForwardPass) -> Tensor:
            if not eta:
                return batch.logits
            return ForwardPass(net, batch.images + eta * _step(batch, temperature)).logits

        def before_step(batch: ForwardPass) -> Tensor:
            return log_odds(ForwardPass(net, batch.images).logits, temperature)

        return Fitted.attacked_through_softmax(
            net,
            lambda batch: max_softmax(stepped_logits(batch), temperature),
            needs_input_gradient=eta != 0,
            objective=lambda batch: log_odds(stepped_logits(batch), temperature),
            approximation=before_step if eta else None,
            input_step=eta,
            temperature=temperature,
            eta=eta,
        )

    def _choose(self, net: nn.Module, data: FitData) -> tuple[float, float]:
        """Return the pair of least FPR at 95 % TPR between training images and noise; of equals, of greatest AUROC."""
        inliers = data.sample(data.inliers(), self.noise, "odin")
        sides = inliers, random_noise(self.noise, data.seed, inliers.shape[2:])
        temperatures = TEMPERATURES if self.temperature is None else (self.temperature,)
        etas = ETAS if self.eta is None else (self.eta,)
        quality: dict[tuple[float, float], tuple[float, float]] = {}
        for temperature in temperatures:
            scores: dict[float, list[list[Tensor]]] = {eta: [[], []] for eta in etas}
            for side, images in enumerate(sides):
                for batch in device_batches(images, data.batch_size, net):
                    step = _step(ForwardPass(net, batch), temperature)  # one gradient for all etas
                    with torch.no_grad():
                        for eta in etas:
                            scores[eta][side].append(max_softmax(net(batch + eta * step), temperature).cpu())
            for eta, (inlier_scores, noise_scores) in scores.items():
                pair = torch.cat(inlier_scores), torch.cat(noise_scores)
                quality[temperature, eta] = fpr_at_tpr(*pair), -auroc(*pair)
        return min(quality, key=lambda pair: quality[pair])


def _step(batch: ForwardPass, temperature: float) -> Tensor:
    """Return sign(grad_x log S(x; T)), the direction of more confidence: (N, 3, H, W) of -1, 0 and 1."""
    return batch.gradient_sign(lambda logits: (logits.float() / temperature).log_softmax(dim=1).amax(dim=1))


def random_noise(count: int, seed: int, size: Sequence[int] = (32, 32)) -> Tensor:
    """Draw noise images (count, 3, *size) in [0, 1]: the first half Gaussian and clipped, the other half uniform."""
    draws = generator(seed, "noise")
    gaussian = torch.randn(count // 2, 3, *size, generator=draws).add_(0.5).clamp_(0, 1)
    return torch.cat([gaussian, torch.rand(count - count // 2, 3, *size, generator=draws)])
