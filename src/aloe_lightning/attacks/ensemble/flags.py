"""Signs that an attack was weaker than it should be, so that a high number after it may not mean robustness.

Each is a share of images in [0, 1] and is raised above a limit (see Carlini et al., arXiv:1902.06705).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aloe_lightning.attacks.ensemble.members import ON_OBJECTIVE
from aloe_lightning.attacks.ensemble.strong import Strong
from aloe_lightning.attacks.ensemble.target import ImageSeeds, Target, WorstCase

LIMIT = 0.05
GRADIENT_FREE = ("square",)


@dataclass(frozen=True)
class Flag:
    """A sign that an attack was weak.

    Attributes:
        name: short name, for records.
        value: a share in [0, 1], 0 for no sign at all.
        message: the meaning in one sentence.
        limit: the flag is raised if the value is above it.
    """

    name: str
    value: float
    message: str
    limit: float = LIMIT

    @property
    def raised(self) -> bool:
        """True if the value is above the limit."""
        return self.value > self.limit


def _share(mask: Tensor) -> float:
    return float(mask.double().mean()) if len(mask) else 0.0


def zero_gradient(zero: Tensor) -> Flag:
    """Return the share of images with a gradient of exactly zero at the start of the attack; bool (N,)."""
    return Flag("zero_gradient", _share(zero), "the gradient of the score is exactly zero: the score is masked")


def not_rising(stuck: Tensor) -> Flag:
    """Return the share of images whose objective no gradient step raised; bool (N,)."""
    return Flag("not_rising", _share(stuck), "gradient steps do not raise the objective")


def gradient_free_beats_gradient(clean: Tensor, gradient: Tensor, both: Tensor) -> Flag:
    """Return the part of the mean change of the score that only a gradient-free attack found.

    Args:
        clean: scores (N,) of clean images.
        gradient: scores (N,) of the worst case over attacks with gradients.
        both: scores (N,) of the worst case with the gradient-free attack, too.
    """
    total = float((both - clean).double().abs().mean())
    extra = float((both - gradient).double().abs().mean())
    message = "a search without gradients finds what gradients do not: they mislead"
    return Flag("gradient_free", extra / total if total > 0 else 0.0, message)


def bigger_epsilon_weaker(small: Tensor, big: Tensor, sign: int) -> Flag:
    """Return the share of images for which an attack with a bigger epsilon ends less bad.

    Args:
        small: scores (N,) with the smaller epsilon.
        big: scores (N,) with the bigger one.
        sign: -1 for in-distribution images, 1 for OOD images (`Target.sign`).
    """
    weaker = sign * big < sign * small - 1e-6 * small.abs()
    return Flag("bigger_epsilon", _share(weaker), "a bigger epsilon gives a weaker attack")


def unlimited_epsilon_short(scores: Tensor, threshold: float, sign: int) -> Flag:
    """Return the share of images that an attack without a limit does not bring across a threshold.

    Args:
        scores: scores (N,) after an attack that may reach any image in [0, 1].
        threshold: a score that images of the other kind have when clean, such as their median.
        sign: -1 for in-distribution images, 1 for OOD images (`Target.sign`).
    """
    short = sign * scores < sign * threshold
    return Flag("unlimited_epsilon", _share(short), "even without a limit the attack does not succeed on every image")


def random_score(differs: Tensor) -> Flag:
    """Return the share of images whose scores differ between two calls, of those tried; see `WorstCase`."""
    return Flag(
        "random_score",
        _share(differs[~differs.isnan()]),
        "the score is random: an attack has to average over its draws",
    )


def not_finite(found: Tensor) -> Flag:
    """Return the share of images with an attacked score that was no finite number; bool (N,). Any image raises it."""
    message = "attacked images have scores that are nan or inf: they count as no success, and the score is not safe"
    return Flag("not_finite", _share(found), message, limit=0)


SIGNS = {
    "zero_gradient": zero_gradient,
    "not_rising": not_rising,
    "random_score": random_score,
    "not_finite": not_finite,
}
"""Flags of one attribute (N,) of `WorstCase`, by its name."""


def surrogate_only(members: Iterable[str]) -> Flag:
    """Return 1 if no member climbed the score itself, for want of a gradient or by choice of the members.

    Args:
        members: names of the members that took part.
    """
    value = float(not {*ON_OBJECTIVE, "fast"} & set(members))
    return Flag("surrogate_only", value, "no gradient of the score was used: attacks on surrogates were transferred")


def flags_of(worst: WorstCase, target: Target) -> list[Flag]:
    """Return the flags that an ensemble attack gives without further work.

    Args:
        worst: result of the attack on a batch or a set.
        target: the score that was attacked.
    """
    flags = [flag(getattr(worst, name)) for name, flag in SIGNS.items()]
    return [*flags, surrogate_only(worst.candidates), *gradient_free_flags(worst.candidates, target.sign)]


def gradient_free_flags(candidates: Mapping[str, Tensor], sign: int) -> list[Flag]:
    """Return the flag of the gradient-free members, if any took part.

    A gradient-free member starts from the worst case of the members before it; later members do not count.

    Args:
        candidates: scores (N,) by member in the order of the attack, `clean` first.
        sign: -1 for in-distribution images, 1 for OOD images.
    """
    names = list(candidates)
    last = max((names.index(name) for name in GRADIENT_FREE if name in names), default=None)
    if last is None:
        return []
    before = torch.stack([sign * candidates[name] for name in names[:last] if name not in GRADIENT_FREE])
    gradient = sign * before.amax(0)
    both = sign * torch.maximum(sign * candidates[names[last]], sign * gradient)
    return [gradient_free_beats_gradient(candidates["clean"], gradient, both)]


def epsilon_flags(attack: Strong, images: Tensor, target: Target, threshold: float) -> list[Flag]:
    """Attack with twice the epsilon, and without a limit, and return the flags of both; takes two more attacks.

    Args:
        attack: the attack whose epsilon is in question.
        images: (N, 3, H, W) in [0, 1]; a few dozen are enough.
        target: the score.
        threshold: a score of clean images of the other kind, such as their median.
    """
    checked = replace(attack, epsilon_checks=len(images))
    worst = checked.attack_scores(images, {"": target}, seeds=ImageSeeds.of(len(images)))[""]
    return flags_beyond(worst.score, worst.beyond, threshold, target.sign)


def flags_beyond(score: Tensor, beyond: Mapping[str, Tensor], threshold: float, sign: int) -> list[Flag]:
    """Return the flags of the attacks in larger balls, over the images on which they were tried.

    Args:
        score: scores (N,) after the attack.
        beyond: scores (N,) by ball, `doubled` and `unlimited`, NaN where it was not tried; empty for no flags.
        threshold: a score of clean images of the other kind, such as their median.
        sign: -1 for in-distribution images, 1 for OOD images.
    """
    if not beyond:
        return []
    tried = ~beyond["unlimited"].isnan()
    return [
        bigger_epsilon_weaker(score[tried], beyond["doubled"][tried], sign),
        unlimited_epsilon_short(beyond["unlimited"][tried], threshold, sign),
    ]
