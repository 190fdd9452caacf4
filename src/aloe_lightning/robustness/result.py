"""The result of an evaluation: scores of every image, numbers with intervals, a table, a report, files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from aloe_lightning.errors import UserError
from aloe_lightning.evaluation.records import Side
from aloe_lightning.evaluation.scores import Scores
from aloe_lightning.report.leaderboard import ENTRY, Entry
from aloe_lightning.robustness.numbers import HEADINGS, SIDE_HEADINGS, headings_of, numbers_of
from aloe_lightning.runtime.environment import package_versions
from aloe_lightning.storage.files import parse_json, write_json


@dataclass(frozen=True, kw_only=True)
class Result:
    """The answer to "does your detector survive?".

    Attributes:
        scores: float64 (N,) by (detector, set, condition): detector is its name, set `id` or the name of an OOD set,
            condition `clean` or `attacked`; in the order of the set, higher = more in-distribution.
        accuracy: share of clean ID images classified correctly; None without labels or for a score function.
        labelled: number of images that the accuracy is computed from.
        sides: attacked sides.
        settings: the evaluation's settings: net, normalisation, size, eps, norm, attack, seed, counts.
        notes: remarks: resized images, warnings.
    """

    scores: Scores
    accuracy: float | None
    labelled: int
    sides: Sequence[Side]
    settings: Mapping[str, Any]
    notes: Sequence[str] = field(default_factory=tuple)

    @cached_property
    def numbers(self) -> pd.DataFrame:
        """Every number with its 95 % interval, as fractions; see `numbers_of`."""
        return numbers_of(self.scores, self.sides, int(self.settings["seed"]))

    def number(self, metric: str, *, detector: str | None = None, ood: str | None = None, side: Side = "both") -> float:
        """Return one number, a fraction; detector and OOD set default to the first."""
        row = {
            "detector": detector or self.scores.detectors[0],
            "ood": ood or self.scores.ood_sets[0],
            "side": side,
            "metric": metric,
        }
        found = self.numbers[(self.numbers[list(row)] == pd.Series(row)).all(axis=1)]
        if found.empty:
            raise KeyError(f"no such number: {row}")
        return float(found.value.iloc[0])

    def table(self) -> pd.DataFrame:
        """Return the table in percent: a row for each detector and OOD set, columns (side, metric).

        AUROC and FPR95 choose the threshold again on the attacked scores, as in the paper. TPR and FPR at the fixed
        threshold, of 95 % TPR on clean ID images, are those of a deployed detector. No attack within the budget brings
        the AUROC below GAUROC.
        """
        shown = self.numbers[self.numbers.metric.isin(list(HEADINGS))]
        table = shown.pivot_table(index=["detector", "ood"], columns=["side", "metric"], values="value", sort=False)
        table = 100 * table[[(side, metric) for side in self.sides for metric in headings_of(self.numbers, side)]]
        table.columns = pd.MultiIndex.from_tuples([(SIDE_HEADINGS[side], HEADINGS[metric]) for side, metric in table])
        return table.round(2)

    @property
    def caption(self) -> str:
        """The threat model and the conventions of the numbers, in sentences."""
        s = self.settings
        kinds = ", ".join(f"{detector} {kind}" for detector, kind in s["kinds"].items())
        counts = ", ".join(f"{name} ({count})" for name, count in s["counts"].items())
        return " ".join(
            [
                f"{s['net']}; images of {s['size']} pixels; normalisation {s['normalisation']}.",
                f"Attack: {s['attack']}, {s['norm']} ball of {s['epsilon']:g}/255, preset {s['preset']}; {kinds}.",
                f"Images: {counts}. In percent; higher scores and the positive class are in-distribution.",
                "AUROC and FPR95 choose the threshold again on the attacked scores; the fixed threshold is that of "
                "95 % true positives on clean ID images, as in a deployed detector.",
                *(f"{note[0].upper()}{note[1:]}." for note in self.notes),
            ]
        )

    def entry(self) -> Entry:
        """Return the entry of this result in a leaderboard."""
        shared = {f.name: self.settings[f.name] for f in fields(Entry) if f.name in self.settings}
        rows = self.numbers.astype(object).where(self.numbers.notna(), None)
        return Entry(
            **shared,  # the settings bear the names of the fields
            sides=list(self.sides),
            accuracy=self.accuracy,
            numbers=rows.to_dict("records"),
            packages=package_versions("torch"),
        )

    def report(self, folder: str | Path) -> Path:
        """Write `robustness.html`, CSV files and the entry of a leaderboard, and return the path of the page."""
        from aloe_lightning.robustness.page import write_report

        page = write_report({str(self.settings["net"]): self}, Path(folder).expanduser())
        self.entry().write(page.parent / ENTRY)
        return page

    def save(self, folder: str | Path) -> Path:
        """Write `result.json`, `scores.npz` and the entry of a leaderboard to a folder, and return its path."""
        place = Path(folder).expanduser()
        place.mkdir(parents=True, exist_ok=True)
        self.scores.save(place / "scores.npz")
        content = {name: getattr(self, name) for name in ("accuracy", "labelled", "sides", "settings", "notes")}
        write_json(place / "result.json", {**content, "sides": list(self.sides), "notes": list(self.notes)})
        self.entry().write(place / ENTRY)
        return place

    @classmethod
    def load(cls, folder: str | Path) -> "Result":
        """Read what `save` wrote.

        Raises:
            UserError: if a file is missing or damaged.
        """
        place = Path(folder).expanduser()
        try:
            content = parse_json((place / "result.json").read_bytes())
            return cls(scores=Scores.load(place / "scores.npz"), **content)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"no result of an evaluation: {place.absolute() / 'result.json'}: {error}") from error
