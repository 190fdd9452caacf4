"""Detectors of the library pytorch-ood (https://pytorch-ood.readthedocs.io) whose score is a function of logits."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from aloe_lightning.attacks import AttackLoss, Membership
from aloe_lightning.detectors.detector import FitData, Fitted, of_softmax
from aloe_lightning.detectors.forward_pass import ForwardPass
from aloe_lightning.errors import UserError
from aloe_lightning.runtime.progress import track


@dataclass(frozen=True, kw_only=True)
class PytorchOOD:
    """S(x) = -(outlier score of the library's detector on the logits of x): higher = more in-distribution.

    Attributes:
        detector: name of the class in `pytorch_ood.detector`, such as GEN, KLMatching or Entropy.
        options: its arguments besides the model.
        attack: `score`: attacked through its own score, which tells whether it survives; `softmax`: scored on the
            images of Algorithm 1, a transfer attack.
        name: as records state it.
    """

    detector: str = "GEN"
    options: Mapping[str, Any] = field(default_factory=dict)
    attack: Literal["score", "softmax"] = "score"
    name: str = "pytorch_ood"

    @property
    def learns(self) -> bool:
        """Whether the library's detector wants training images."""
        return bool(self._built().requires_fit)

    def fit(self, net: nn.Module, data: FitData | None = None) -> Fitted:
        """Images -> negative outlier score of the net's logits in float64.

        Raises:
            UserError: if the library is not there, has no such detector, or its score wants more than logits.
        """
        theirs = self._built()
        if theirs.requires_fit:
            if data is None:
                raise ValueError(f"{self.detector} learns from training images")
            theirs.fit_logits(*_training_logits(net, data, self.detector))

        def score(batch: ForwardPass) -> Tensor:
            found: Tensor = -theirs.predict_logits(batch.logits.double())
            return found

        if self.attack == "softmax":
            return of_softmax(net, score)
        loss = through(lambda images: score(ForwardPass(net, images)), self.name)
        return Fitted(net=net, score=score, loss=loss, crafted="score")

    def _built(self) -> Any:
        try:
            from pytorch_ood import api, detector
        except ImportError as error:
            raise UserError(
                f"detector {self.name}: pip install 'aloe-lightning[pytorch-ood]' brings its library"
            ) from error
        found = getattr(detector, self.detector, None)
        if not isinstance(found, type) or not issubclass(found, api.LogitsDetector):
            known = sorted(
                k for k, v in vars(detector).items() if isinstance(v, type) and issubclass(v, api.LogitsDetector)
            )
            raise UserError(
                f"pytorch-ood has no detector {self.detector!r} on logits alone; there are {', '.join(known)}"
            )
        try:
            return found(None, **self.options)
        except TypeError as error:
            raise UserError(f"detector.{self.name}.options: {error}") from error


def through(score: Callable[[Tensor], Tensor], name: str) -> AttackLoss:
    """The attack on a score itself: down for in-distribution images, up for OOD images."""

    def loss(images: Tensor, membership: Membership) -> Tensor:
        found = score(images)
        if not found.requires_grad:
            raise UserError(f"the score of {name} has no gradient to attack it by: detector.{name}.attack=softmax")
        return -found if membership == "id" else found

    return loss


@torch.no_grad()
def _training_logits(net: nn.Module, data: FitData, label: str) -> tuple[Tensor, Tensor]:
    """Logits (N, K) in float64 and labels (N,) of all training images."""
    assert data.inliers.labels is not None
    device = next(net.parameters()).device
    parts = torch.split(torch.arange(len(data.inliers)), data.batch_size)
    shown = track(parts, len(data.inliers), f"fitting {label}", step=data.batch_size)
    logits = [net(data.inliers.take(part).to(device).float().div_(255)).double() for part in shown]
    return torch.cat(logits), data.inliers.labels.to(device)
