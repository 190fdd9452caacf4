"""A detector's score as an attack sees it, the randomness of each image, and the worst case that an attack found."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from aloe_lightning.attacks.algorithm_1 import Membership
from aloe_lightning.attacks.ascent import Ascent, where
from aloe_lightning.attacks.linf import LossFn
from aloe_lightning.errors import UserError
from aloe_lightning.runtime.seeding import generator

RANDOM_SCORE_CHECKS = 16


@dataclass(frozen=True, kw_only=True)
class Target:
    """The score of a detector for images of one membership, and the losses by which it may be attacked.

    The net behind it must be frozen during the attack.

    Attributes:
        membership: `id` images are attacked towards low scores, `ood` images towards high ones.
        score: images -> (N,), higher = more in-distribution: judges every attack; needs no gradient.
        objective: images -> (N,), a strictly increasing function of the score that does not saturate, differentiable
            in the images; None if the score has no gradient, so that it is attacked through surrogates only.
        logits: images -> logits (N, K), for losses on them; None if there are none.
        paper_loss: the loss that the paper's attack on this detector maximises; None if there is none.
        paper_key: name of that loss if other detectors share it, which are then offered the same images.
        approximation: an objective near to `objective` and cheaper; None if there is none.
        input_step: the step h by which the two differ, in [0, 1] pixels: with the approximation A, the objective is
            A(x + h * sign(A's gradient at x)). 0 if they differ otherwise.
    """

    membership: Membership
    score: LossFn
    objective: LossFn | None = None
    logits: Callable[[Tensor], Tensor] | None = None
    paper_loss: LossFn | None = None
    paper_key: str | None = None
    approximation: LossFn | None = None
    input_step: float = 0.0

    @property
    def sign(self) -> int:
        """-1 for in-distribution images, 1 for OOD images: an attack raises sign * score."""
        return -1 if self.membership == "id" else 1

    def directed(self, function: LossFn) -> LossFn:
        """Return a loss to be maximised, from a function that rises with confidence."""
        return lambda images: self.sign * function(images)


@dataclass(frozen=True)
class ImageSeeds:
    """The randomness of each image of a batch, as a function of the key of its set and of its position there.

    Attributes:
        key: seed and name of the set.
        positions: positions of the images in the set.
    """

    key: tuple[int | str, ...]
    positions: Sequence[int]

    @classmethod
    def of(cls, count: int, seed: int = 0) -> "ImageSeeds":
        """Return the randomness of a set of `count` images that is one batch."""
        return cls((seed,), range(count))

    def generators(self, purpose: str) -> list[torch.Generator]:
        """Return a generator for each image; another purpose gives unrelated draws."""
        return [generator(*self.key, purpose, position) for position in self.positions]

    def noise(self, images: Tensor, purpose: str) -> Tensor:
        """Draw noise of the images' shape, uniform in [-1, 1)."""
        draws = [torch.rand(images.shape[1:], generator=draw) for draw in self.generators(purpose)]
        return (torch.stack(draws) * 2 - 1).to(images)


def check_images(images: Tensor, start: Tensor | None, seeds: ImageSeeds | None) -> None:
    """Raise UserError for images outside [0, 1], or ValueError for noise or seeds of other images.

    Args:
        images: (N, C, H, W).
        start: noise of the images' shape.
        seeds: randomness of N images.
    """
    if images.numel() and not (images.amin() >= -1e-6 and images.amax() <= 1 + 1e-6):
        low, high = float(images.amin()), float(images.amax())
        raise UserError(
            f"an attack requires images in [0, 1]; these are in [{low:.3g}, {high:.3g}]: put their normalisation in "
            f"front of the net (aloe_lightning.nets.Normalize) and give the pixels"
        )
    if start is not None and start.shape != images.shape:
        raise ValueError(f"start must have the images' shape {tuple(images.shape)}; got {tuple(start.shape)}")
    if seeds is not None and len(seeds.positions) != len(images):
        raise ValueError(f"seeds are of {len(seeds.positions)} images, not {len(images)}")


def random_score(target: Target, clean: Tensor, seeds: ImageSeeds) -> Tensor:
    """Score the images at the first positions of the set twice; see `WorstCase.random_score`."""
    differs = clean.new_full((len(clean),), torch.nan, dtype=torch.float64)
    tried = [k for k, position in enumerate(seeds.positions) if position < RANDOM_SCORE_CHECKS]
    if tried:
        with torch.no_grad():
            first, second = (target.score(clean[tried]).double() for _ in range(2))
        differs[tried] = ((first - second).abs() > 1e-4 * first.abs() + 1e-9).double()  # by more than rounding
    return differs


@dataclass(frozen=True)
class WorstCase:
    """The pointwise worst case of several attacks on one detector.

    Attributes:
        images: for each image, the candidate with the worst score, detached (N, C, H, W).
        score: scores (N,) of these images.
        candidates: scores (N,) of the clean images (`clean`), and of what each member found, in the order of the
            attack.
        zero_gradient: bool (N,), whether the gradient of the objective was exactly zero at the start.
        not_rising: bool (N,), whether no gradient step of any member on the objective raised it, or found it at a peak.
        random_score: 1 where two calls scored the clean image differently, 0 where they agree, NaN where this was not
            tried; (N,). It is tried on the first 16 images of a set.
        not_finite: bool (N,), whether the score of a candidate was no finite number, which counts as no success.
        beyond: scores (N,) after the same attack with twice the epsilon (`doubled`) and without a limit (`unlimited`),
            NaN where this was not tried; empty if it was tried on no image.
    """

    images: Tensor
    score: Tensor
    candidates: Mapping[str, Tensor]
    zero_gradient: Tensor
    not_rising: Tensor
    random_score: Tensor
    not_finite: Tensor
    beyond: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass
class Pool:
    """The worst image so far of each image of a batch, for one detector.

    Attributes:
        target: the detector's score.
        clean: clean images (N, C, H, W).
        clean_score: their scores (N,).
        random_score: see `WorstCase`; None if it was tried on no image.
        attacked_logits: ids of the logits functions that `target_class` has attacked; one set serves all detectors
            that are attacked together.
    """

    target: Target
    clean: Tensor
    clean_score: Tensor
    random_score: Tensor | None = None
    attacked_logits: set[int] = field(default_factory=set)
    candidates: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.images, self.score = self.clean, self.clean_score
        self.candidates["clean"] = self.clean_score
        self.zero_gradient = torch.zeros(len(self.clean), dtype=torch.bool, device=self.clean.device)
        self.not_finite = torch.zeros_like(self.zero_gradient)
        self.not_rising: Tensor | None = None

    def offer(self, name: str, images: Tensor) -> None:
        """Score candidates, and keep each that is strictly worse than the worst so far."""
        with torch.no_grad():
            score = self.target.score(images).detach()
        sign = self.target.sign
        finite = score.isfinite()
        self.not_finite = self.not_finite | ~finite
        score = torch.where(finite, score, self.clean_score)  # a score that is no number convinces nobody
        known = self.candidates.get(name)
        worse = score if known is None else sign * torch.maximum(sign * score, sign * known)
        self.candidates[name] = worse
        improved = sign * score > sign * self.score
        self.images, self.score = where(improved, images, self.images), torch.where(improved, score, self.score)

    def observe(self, ascent: Ascent) -> None:
        """Note for an attack on the objective where its first gradient was zero, and where it raised the objective."""
        stuck = ~(ascent.loss > ascent.start_loss)
        if ascent.at_peak is not None:
            stuck = stuck & ~ascent.at_peak
        self.zero_gradient = self.zero_gradient | ascent.zero_gradient
        self.not_rising = stuck if self.not_rising is None else self.not_rising & stuck

    @cached_property
    def likely_classes(self) -> Tensor:
        """Classes of the clean images in descending order of their logits, (N, K)."""
        assert self.target.logits is not None
        with torch.no_grad():
            return self.target.logits(self.clean).argsort(dim=1, descending=True)

    def result(self) -> WorstCase:
        """Return the worst case so far."""
        not_rising = torch.zeros_like(self.zero_gradient) if self.not_rising is None else self.not_rising
        random = torch.full_like(self.clean_score, torch.nan) if self.random_score is None else self.random_score
        return WorstCase(
            images=self.images.detach(),
            score=self.score,
            candidates=dict(self.candidates),
            zero_gradient=self.zero_gradient,
            not_rising=not_rising,
            random_score=random,
            not_finite=self.not_finite,
        )
