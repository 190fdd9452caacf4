"""An entry of the leaderboard: everything that must be known about one result, as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from aloe_lightning.errors import UserError
from aloe_lightning.storage.files import parse_json, write_json

ENTRY = "leaderboard-entry.json"
FORMAT = "aloe_lightning leaderboard entry"
VERSION = 1
MEAN = "mean of the sets"
"""Name of the mean over several OOD sets, in the place of a set's name."""
CONVENTIONS = {
    "score": "higher = more in-distribution",
    "positive class": "in-distribution",
    "ties in AUROC": "one half",
    "FPR95": "share of OOD images at or above the threshold whose true positive rate is nearest to 95 %",
    "threshold": "AUROC and FPR95: chosen on the attacked scores; fixed threshold: on clean in-distribution images",
    "epsilon": "in 1/255 of the pixel range, images in [0, 1]",
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One result.

    Attributes:
        net: name of the net.
        norm: norm of the perturbation, `linf` or `l2`.
        epsilon: radius of the ball, in 1/255 of the pixel range.
        sides: attacked sides: `none`, `id`, `ood`, `both`.
        attack: description of the attack with its version, members and effort.
        kinds: of each detector, `adaptive` for an attack through its own score, `surrogate` for one through another.
        size: width and height of the images, such as `32x32`.
        counts: number of images by set, `id` or the name of an OOD set.
        data: SHA-256 of the images of each set; of `id` also of the labels.
        weights: SHA-256 of the names and values of the net's parameters and buffers.
        seed: random seed of the evaluation.
        accuracy: clean accuracy of the net, a fraction; None if it is not known.
        detectors: class and settings of each detector.
        numbers: every number as a fraction: detector, ood, side, metric, value, and low and high of its 95 % interval,
            None where there is none.
        flags: signs that the attack on a detector was weak, in sentences, by detector.
        conventions: of scores and metrics.
        packages: versions of the packages.
    """

    net: str
    norm: str
    epsilon: float
    sides: Sequence[str]
    attack: str
    kinds: Mapping[str, str]
    size: str
    counts: Mapping[str, int]
    data: Mapping[str, str]
    weights: str
    seed: int
    accuracy: float | None
    detectors: Mapping[str, str]
    numbers: Sequence[Mapping[str, Any]]
    flags: Mapping[str, Sequence[str]] = field(default_factory=dict)
    conventions: Mapping[str, str] = field(default_factory=lambda: dict(CONVENTIONS))
    packages: Mapping[str, str] = field(default_factory=dict)

    def write(self, path: Path) -> Path:
        """Write the entry as JSON and return the path."""
        write_json(path, {"format": FORMAT, "version": VERSION, **asdict(self)})
        return path

    @classmethod
    def read(cls, path: Path) -> "Entry | None":
        """Read an entry; None if the file is no entry but another JSON file.

        Raises:
            UserError: if it is an entry of another version, or lacks something.
        """
        try:
            content = parse_json(path.read_bytes())
        except (OSError, ValueError) as error:
            if path.name == ENTRY:
                raise UserError(f"{path}: damaged ({error})") from error
            return None
        if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
            return None
        version, names = content.pop("version", None), {f.name for f in fields(cls)}
        if version != VERSION or set(content) != names:
            wrong = ", ".join(sorted(names ^ set(content))) or f"version {version}"
            raise UserError(f"{path}: no entry of version {VERSION} ({wrong})")
        try:
            entry = cls(**content)
            ood = next(iter(set(entry.counts) - {"id"}))
            for detector in entry.kinds:
                for side in ("none", "both"):
                    entry.value(detector, "auroc", side)
            assert entry.data[ood]
        except Exception as error:  # damaged values raise nearly anything
            raise UserError(f"{path}: cannot be ranked, it has no {error}") from error
        return entry

    def number(self, detector: str, metric: str, side: str) -> Mapping[str, Any] | None:
        """Return a number over all OOD sets; None if the entry does not have it."""
        found = [n for n in self.numbers if (n["detector"], n["metric"], n["side"]) == (detector, metric, side)]
        sets = [n for n in found if n["ood"] == MEAN] or (found if len(found) == 1 else [])
        return sets[0] if sets else None

    def value(self, detector: str, metric: str, side: str) -> float:
        """Return the value of a number over all OOD sets; KeyError if the entry does not have it."""
        number = self.number(detector, metric, side)
        if number is None:
            raise KeyError(f"{metric} of {detector} with attacked side {side}")
        return float(number["value"])

    @property
    def setting(self) -> tuple[object, ...]:
        """Everything that two entries must share to be ranked together: threat model, attack, images, conventions."""
        ood = tuple(sorted((name, digest) for name, digest in self.data.items() if name != "id"))
        rules = tuple(sorted(self.conventions.items()))
        return self.norm, float(self.epsilon), self.attack, self.size, self.data["id"], ood, rules
