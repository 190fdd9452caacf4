"""What a detector is: frozen settings whose `fit` binds them to a net. Higher score = more in-distribution."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from aloe_lightning.attacks import AttackLoss, confidence_loss
from aloe_lightning.data import ImageSource
from aloe_lightning.detectors.forward_pass import ForwardPass
from aloe_lightning.runtime.seeding import generator

ScoreFn = Callable[[ForwardPass], Tensor]
"""Images (N, 3, H, W) in [0, 1] -> scores (N,), float64; higher = more in-distribution; differentiable in images."""


@dataclass(frozen=True, kw_only=True)
class FitData:
    """What a detector may learn from: training data only, never a test image.

    Attributes:
        inliers: training images with labels.
        outliers: auxiliary outliers.
        num_classes: K.
        seed: of the choice of images.
        batch_size: images per forward pass.
    """

    inliers: ImageSource
    outliers: ImageSource
    num_classes: int
    seed: int = 0
    batch_size: int = 200

    def sample(self, source: ImageSource, count: int, purpose: str) -> Tensor:
        """`count` images of a source drawn without replacement by the seed (all if it has fewer), float32 in [0, 1]."""
        chosen = torch.randperm(len(source), generator=generator(self.seed, purpose))[:count]
        return source.take(chosen.sort().values).float().div_(255)


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A detector bound to a net.

    Attributes:
        net: the net.
        score: the score function.
        loss: what the paper's attack on this detector maximises.
        crafted: name of that loss; detectors that share it are scored on the same attacked images.
        steps: whether the score takes a gradient of the logits: it then goes first, for its pass gives the logits, too.
        settings: what the fit has chosen, for the record.
        tensors: what the fit has learnt, to be saved.
    """

    net: nn.Module
    score: ScoreFn
    loss: AttackLoss
    crafted: str
    steps: bool = False
    settings: Mapping[str, float | str] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [0, 1] -> scores (N,), higher = more in-distribution."""
        return self.score(ForwardPass(self.net, images))


class Detector(Protocol):
    """A score on top of a net. Nothing can score before `fit` returned, so no detector is ever "not fitted"."""

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def learns(self) -> bool:
        """Whether `fit` wants data."""
        ...

    def fit(self, net: nn.Module, data: FitData | None = None) -> Fitted:
        """Bind the detector to a net in eval mode.

        Raises:
            ValueError: if it learns and has no data.
        """
        ...


@runtime_checkable
class Restorable(Detector, Protocol):
    """A detector whose fit can be had again without its data."""

    def restored(self, net: nn.Module, settings: Mapping[str, float | str], tensors: Mapping[str, Tensor]) -> Fitted:
        """The fit again, from the `settings` and `tensors` that it has left."""
        ...


def of_softmax(net: nn.Module, score: ScoreFn, *, steps: bool = False, **settings: float | str) -> Fitted:
    """A detector that reads the softmax, and is therefore attacked by Algorithm 1."""
    loss = confidence_loss(net)
    return Fitted(net=net, score=score, loss=loss, crafted="softmax", steps=steps, settings=settings)


def in_batches(images: Tensor, size: int, like: nn.Module) -> Iterator[Tensor]:
    """Batches of images on the device of a net."""
    device = next(like.parameters()).device
    for batch in torch.split(images, size):
        yield batch.to(device)
