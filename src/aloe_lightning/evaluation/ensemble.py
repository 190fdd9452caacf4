"""Members and flags of an attack on scores, over whole test sets."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from aloe_lightning.attacks import Flag, WorstCase
from aloe_lightning.attacks.ensemble.flags import SIGNS, flags_beyond, gradient_free_flags, surrogate_only
from aloe_lightning.evaluation.scores import Array
from aloe_lightning.metrics import auroc


class EnsembleKey(NamedTuple):
    """Identifies one array (N,) of an attack on the score of a detector.

    Attributes:
        detector: key of the detector in the config.
        dataset: `id`, or the name of an OOD test set.
        kind: `member` for scores of what a member found, `sign` for 0 or 1 by image, `beyond` for scores in a larger
            ball, NaN where this was not tried.
        name: name of the member (`clean` and `paper` among them); `zero_gradient`, `not_rising`, `random_score` or
            `not_finite`;
            `doubled` or `unlimited`.
    """

    detector: str
    dataset: str
    kind: str
    name: str


@dataclass(frozen=True)
class Gain:
    """The part of one member in the worst case of the images of one test set.

    Attributes:
        member: name of the member.
        images: number of images for which it was the first to find the worst score.
        score: change of the mean worst score by adding the member to those before it.
        auroc: AUROC lost with both sides attacked by adding it to those before it, to both sides; 0 for `clean`.
    """

    member: str
    images: int
    score: float
    auroc: float


@dataclass(frozen=True)
class Ensemble:
    """Results of each member of an attack on scores.

    Attributes:
        arrays: arrays (N,) in the order of each test set.
    """

    arrays: Mapping[EnsembleKey, Array] = field(default_factory=dict)

    def members(self, detector: str, dataset: str) -> dict[str, Array]:
        """Return the scores (N,) of a detector by member, in the order of the attack, `clean` first."""
        wanted = (detector, dataset, "member")
        return {key.name: values for key, values in self.arrays.items() if key[:3] == wanted}

    def gains(self, detector: str, ood: str, dataset: str | None = None) -> list[Gain]:
        """Return the gain of each member, in the order of the attack; none for other attacks.

        Args:
            detector: key of the detector.
            ood: OOD test set of the AUROC.
            dataset: test set whose images and mean score are counted, `id` or the OOD set; None for the OOD set.
        """
        if not self.members(detector, ood):
            return []
        dataset = dataset or ood
        sides = {side: self.members(detector, side) for side in ("id", ood)}
        running = {side: _running_worst(members, side) for side, members in sides.items()}
        winners = _winners(sides[dataset], dataset)
        gains, before = [], {side: worst["clean"] for side, worst in running.items()}
        for name in dict.fromkeys([*sides[ood], *sides["id"]]):  # some members attack OOD images only
            after = {side: worst.get(name, before[side]) for side, worst in running.items()}
            change = float((after[dataset] - before[dataset]).mean())
            lost = auroc(before["id"], before[ood]) - auroc(after["id"], after[ood])
            gains.append(Gain(name, winners.get(name, 0), change, lost))
            before = after
        return gains

    def numbers(self, detector: str, dataset: str) -> dict[str, float]:
        """Return `worst/<member>` and `flag/<name>`, the shares of the images of a test set; empty for other attacks.

        A member's share counts the images that it is the first to bring to their worst score.
        """
        members = self.members(detector, dataset)
        if not members:
            return {}
        count = len(members["clean"])
        shares = {f"worst/{name}": images / count for name, images in _winners(members, dataset).items()}
        return shares | {f"flag/{flag.name}": flag.value for flag in self.flags(detector, dataset)}

    def flags(self, detector: str, dataset: str) -> list[Flag]:
        """Return the flags of the attack on a detector on one test set; none for other attacks."""
        if not self.members(detector, dataset):
            return []
        sign = {name: self.arrays[EnsembleKey(detector, dataset, "sign", name)] for name in SIGNS}
        members = {name: torch.from_numpy(values) for name, values in self.members(detector, dataset).items()}
        flags = [function(torch.from_numpy(sign[name])) for name, function in SIGNS.items()]
        flags.append(surrogate_only(members))
        flags += gradient_free_flags(members, _sign(dataset))
        beyond = {
            key.name: torch.from_numpy(values)
            for key, values in self.arrays.items()
            if key[:3] == (detector, dataset, "beyond")
        }
        others = [key.dataset for key in self.arrays if key[0] == detector and key[2:] == ("member", "clean")]
        others = [name for name in others if (name == "id") != (dataset == "id")]
        if not beyond or not others:
            return flags
        clean = np.concatenate([self.members(detector, name)["clean"] for name in others])
        worst = torch.from_numpy(list(_running_worst(self.members(detector, dataset), dataset).values())[-1])
        return flags + flags_beyond(worst, beyond, float(np.median(clean)), _sign(dataset))

    def summary(self) -> tuple[dict[str, dict[str, float]], dict[str, list[str]]]:
        """Return the numbers of all detectors by `detector/set`, and the raised flags in words by detector."""
        numbers: dict[str, dict[str, float]] = {}
        raised: dict[str, list[str]] = {}
        for detector, name in dict.fromkeys(key[:2] for key in self.arrays):
            numbers[f"{detector}/{name}"] = self.numbers(detector, name)
            for flag in self.flags(detector, name):
                if flag.raised:
                    text = f"attack on {detector}, {name}: {flag.message} ({100 * flag.value:.0f} %)"
                    raised.setdefault(detector, []).append(text)
        return numbers, raised


def ensemble_arrays(detector: str, dataset: str, worst: WorstCase) -> Iterator[tuple[EnsembleKey, Array]]:
    """Yield the arrays of a batch."""
    for name, scores in worst.candidates.items():
        yield EnsembleKey(detector, dataset, "member", name), _array(scores)
    for name in SIGNS:
        yield EnsembleKey(detector, dataset, "sign", name), _array(getattr(worst, name))
    for name, scores in worst.beyond.items():
        yield EnsembleKey(detector, dataset, "beyond", name), _array(scores)


def _running_worst(members: Mapping[str, Array], dataset: str) -> dict[str, Array]:
    """Return the worst case over each member and those before it."""
    sign = _sign(dataset)
    worst = np.maximum.accumulate([sign * scores for scores in members.values()])
    return {name: sign * scores for name, scores in zip(members, worst, strict=True)}


def _winners(members: Mapping[str, Array], dataset: str) -> dict[str, int]:
    """Return for each member the number of images for which it was the first to reach the worst score."""
    names, sign = list(members), _sign(dataset)
    first = np.argmax([sign * scores for scores in members.values()], axis=0)
    return {name: int((first == position).sum()) for position, name in enumerate(names)}


def _sign(dataset: str) -> int:
    return -1 if dataset == "id" else 1


def _array(values: Tensor) -> Array:
    return values.cpu().double().numpy()
