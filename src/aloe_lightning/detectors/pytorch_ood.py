"""Detectors of the library pytorch-ood (https://pytorch-ood.readthedocs.io) whose score is a function of logits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from aloe_lightning.attacks import LossFn, Membership
from aloe_lightning.detectors.detector import Detector, FitData, Fitted, device_of
from aloe_lightning.detectors.forward_pass import ForwardPass
from aloe_lightning.errors import UserError
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import Text


@checked
@dataclass(frozen=True, kw_only=True)
class PytorchOOD(Detector):
    """S(x) = -(outlier score of the library's detector on the logits of x): higher = more in-distribution.

    Attributes:
        detector: name of a class of `pytorch_ood.detector`, such as GEN, EnergyBased, KLMatching or Entropy.
        options: its arguments besides the model.
        attack: score attacks the score itself; softmax scores the images of Algorithm 1, a transfer attack.
    """

    detector: Text = "GEN"
    options: Mapping[str, Any] = field(default_factory=dict)
    attack: Literal["score", "softmax"] = "score"

    @property
    def requires_fit(self) -> bool:
        """True if the library's detector requires training images."""
        return bool(self._library_detector().requires_fit)

    @property
    def title(self) -> str:
        """The library's name of the detector."""
        return self.detector

    def fit(self, net: nn.Module, data: FitData | None = None) -> Fitted:
        """Return the negative outlier score of the net's logits; UserError without such a detector in the library."""
        library_detector = self._library_detector()
        if library_detector.requires_fit:
            if data is None:
                raise ValueError(f"{self.detector} requires training images")
            batches = data.training_batches(net, f"fitting {self.detector}")
            with torch.no_grad():
                logits, labels = zip(*((net(images).double(), labels) for images, labels in batches), strict=True)
            library_detector.fit_logits(torch.cat(logits), torch.cat(labels).to(device_of(net)))

        def score(batch: ForwardPass) -> Tensor:
            outlier_score: Tensor = library_detector.predict_logits(batch.logits.double())
            return -outlier_score

        def loss(membership: Membership) -> LossFn:
            sign = -1 if membership == "id" else 1
            return lambda images: sign * self._require_gradient(score(ForwardPass(net, images)))

        if self.attack == "softmax":
            return Fitted.attacked_through_softmax(net, score, has_gradient=False)
        return Fitted(net=net, score=score, loss=loss)

    def _require_gradient(self, score: Tensor) -> Tensor:
        if not score.requires_grad:
            problem = "has no gradient for an attack on its score: set its attack=softmax"
            raise UserError(f"pytorch-ood's {self.detector} {problem}")
        return score

    def _library_detector(self) -> Any:
        try:
            from pytorch_ood import api, detector
        except ImportError as error:
            raise UserError(
                f"detector {self.detector} requires pytorch-ood: pip install 'aloe-lightning[pytorch-ood]'"
            ) from error
        known = {k: v for k, v in vars(detector).items() if isinstance(v, type) and issubclass(v, api.LogitsDetector)}
        if self.detector not in known:
            raise UserError(
                f"pytorch-ood has no detector {self.detector!r} on logits alone; it has {', '.join(sorted(known))}"
            )
        try:
            return known[self.detector](None, **self.options)
        except TypeError as error:
            raise UserError(f"options of pytorch-ood's detector {self.detector}: {error}") from error
