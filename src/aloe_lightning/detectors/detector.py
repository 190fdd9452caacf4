"""The interface of a detector: frozen settings whose `fit` binds them to a net. Higher score = more in-distribution."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from aloe_lightning.attacks import LossFn, Membership, Target, algorithm_1, frozen_eval
from aloe_lightning.data import ImageSource
from aloe_lightning.detectors.forward_pass import ForwardPass
from aloe_lightning.errors import UserError
from aloe_lightning.runtime.progress import track
from aloe_lightning.runtime.seeding import generator

ScoreFn = Callable[[ForwardPass], Tensor]
"""Images (N, 3, H, W) in [0, 1] -> scores (N,), float64; higher = more in-distribution; differentiable in images."""


def no_outliers() -> ImageSource:
    """Raise UserError."""
    raise UserError("a detector requires outliers, and none are given: choose outliers=")


@dataclass(frozen=True, kw_only=True)
class FitData:
    """The images that a detector may be fitted on: training data only, and read only when a detector asks for them.

    Attributes:
        inliers: returns the training images with labels.
        outliers: returns the auxiliary outliers.
        num_classes: number of classes K.
        seed: random seed of the choice of images.
        batch_size: images per forward pass.
    """

    inliers: Callable[[], ImageSource]
    outliers: Callable[[], ImageSource] = no_outliers
    num_classes: int
    seed: int = 0
    batch_size: int = 200

    def sample(self, source: ImageSource, count: int, purpose: str) -> Tensor:
        """Draw images without replacement by the seed: (count, 3, H, W) in [0, 1], or all if there are fewer."""
        chosen = torch.randperm(len(source), generator=generator(self.seed, purpose))[:count]
        return source.take(chosen.sort().values).float().div_(255)

    def training_batches(self, net: nn.Module, label: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over all training images (n, 3, H, W) in [0, 1] on the device of a net, with their labels (n,)."""
        images, device = self.inliers(), device_of(net)
        labels = images.labels
        assert labels is not None
        parts = track(torch.split(torch.arange(len(images)), self.batch_size), len(images), label, step=self.batch_size)
        return ((images.take(part).to(device).float().div_(255), labels[part]) for part in parts)


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A detector bound to a net.

    Attributes:
        net: the net.
        score: the score function.
        loss: membership of the images -> the loss that the attack on this detector maximises; the net must be frozen
            during the attack.
        attack_key: name of that loss if several detectors share it, so that they are scored on the same attacked
            images; None for a loss that no other detector has.
        needs_input_gradient: True if the score uses a gradient of the logits with respect to the images.
        objective: a strictly increasing function of the score that does not saturate, differentiable in the images,
            for attacks through the score itself; None for the score.
        approximation: an objective near to that one and cheaper; None if there is none.
        input_step: the step of the input by which the two differ; see `Target`.
        has_gradient: False if the score is not differentiable in the images.
        settings: settings that the fit has chosen, for the record.
        tensors: parameters that the fit has learnt, to be saved.
    """

    net: nn.Module
    score: ScoreFn
    loss: Callable[[Membership], LossFn]
    attack_key: str | None = None
    needs_input_gradient: bool = False
    objective: ScoreFn | None = None
    approximation: ScoreFn | None = None
    input_step: float = 0.0
    has_gradient: bool = True
    settings: Mapping[str, float | str] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def attacked_through_softmax(
        cls,
        net: nn.Module,
        score: ScoreFn,
        *,
        needs_input_gradient: bool = False,
        objective: ScoreFn | None = None,
        approximation: ScoreFn | None = None,
        input_step: float = 0.0,
        has_gradient: bool = True,
        **settings: float | str,
    ) -> "Fitted":
        """Bind a score that the paper attacks by Algorithm 1."""
        return cls(
            net=net,
            score=score,
            loss=lambda membership: algorithm_1(net, membership),
            attack_key="softmax",
            needs_input_gradient=needs_input_gradient,
            objective=objective,
            approximation=approximation,
            input_step=input_step,
            has_gradient=has_gradient,
            settings=settings,
        )

    def target(self, membership: Membership) -> Target:
        """Return the score as an attack through the score itself sees it; freeze the net around the attack."""

        def of_images(function: ScoreFn) -> LossFn:
            return lambda x: function(ForwardPass(self.net, x, needs_input_gradient=self.needs_input_gradient))

        return Target(
            membership=membership,
            score=of_images(self.score),
            objective=of_images(self.objective or self.score) if self.has_gradient else None,
            logits=self.net,
            paper_loss=self.loss(membership),
            paper_key=self.attack_key,
            approximation=None if self.approximation is None else of_images(self.approximation),
            input_step=self.input_step,
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Score images (N, 3, H, W) in [0, 1]: (N,), higher = more in-distribution. Freezes the net during the call."""
        with frozen_eval(self.net):
            return self.score(ForwardPass(self.net, images, needs_input_gradient=self.needs_input_gradient))


class Detector(ABC):
    """A score on top of a net. Only the result of `fit` scores, so that no detector is ever "not fitted"."""

    reads_energy: ClassVar[bool] = False
    """True for the logsumexp of the logits, which of log-probabilities is 0 on every image."""

    @property
    def requires_fit(self) -> bool:
        """True if `fit` reads data."""
        return False

    @property
    def requires_outliers(self) -> bool:
        """True if `fit` also reads outliers."""
        return False

    @property
    def title(self) -> str:
        """The detector's name in tables."""
        return type(self).__name__

    @abstractmethod
    def fit(self, net: nn.Module, data: FitData | None = None) -> Fitted:
        """Bind the detector to a net in eval mode; ValueError if it requires data and there are none."""


class CacheableDetector(Detector):
    """A detector whose fit can be rebuilt without its data."""

    @abstractmethod
    def from_state(self, net: nn.Module, settings: Mapping[str, float | str], tensors: Mapping[str, Tensor]) -> Fitted:
        """Rebuild the fitted detector from its saved state, the `settings` and `tensors` of `Fitted`."""


def device_of(net: nn.Module) -> torch.device:
    """Return the device of a net's parameters."""
    return next(net.parameters()).device


def device_batches(images: Tensor, size: int, net: nn.Module) -> Iterator[Tensor]:
    """Yield batches of images on the device of a net."""
    return (batch.to(device_of(net)) for batch in torch.split(images, size))
