"""The finished runs of a folder, and which of them may stand in one table."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aloe_lightning.errors import UserError
from aloe_lightning.evaluation.records import Cell, Record, read_records

Scores = dict[str, NDArray[np.float64]]
"""`detector/set/state` -> (N,)."""


@dataclass(frozen=True)
class Run:
    """A finished cell on disk; it has at least one record."""

    folder: Path
    records: list[Record]

    @property
    def cell(self) -> Cell:
        """What the run is of."""
        return self.records[0]

    def scores(self) -> Scores:
        """The raw scores."""
        with np.load(self.folder / "scores.npz", allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}

    def detectors(self) -> dict[str, str]:
        """Fingerprint of each detector's settings by its name."""
        return {r.detector: r.detector_settings for r in self.records if r.detector}


def runs_in(files: Iterable[Path]) -> list[Run]:
    """The runs of some `records.jsonl`, the latest first; none for records of another version or without scores."""
    found = []
    for path in sorted(files, key=lambda path: (-path.stat().st_mtime, path)):
        try:
            records = read_records(path)
        except UserError:
            continue
        if records and (path.parent / "scores.npz").is_file():
            found.append(Run(path.parent, records))
    return found


def together(runs: Sequence[Run], like: Run) -> list[Run]:
    """The runs that share a table with one of them: same setting, same pixels, same settings of the same detectors.

    Of runs that contradict each other the earlier of the sequence is taken; an objective without outliers has none.
    """
    outliers, detectors = like.cell.outlier_pixels, like.detectors()
    chosen = [like]
    for run in runs:
        cell, mine = run.cell, run.detectors()
        same = (cell.protocol, cell.pixels) == (like.cell.protocol, like.cell.pixels)
        agree = all(detectors.get(name, setting) == setting for name, setting in mine.items())
        if run.folder == like.folder or not (same and agree) or len({outliers, cell.outlier_pixels} - {""}) > 1:
            continue
        chosen.append(run)
        outliers, detectors = outliers or cell.outlier_pixels, {**mine, **detectors}
    return chosen


def records_of_all(runs: Sequence[Run]) -> list[Record]:
    """The records of runs that stand together, each number once though two runs have it."""
    found: dict[tuple[object, ...], Record] = {}
    for run in runs:
        for r in run.records:
            key = (r.dataset, r.objective, r.seed, r.train_epsilon, r.eval_epsilon, r.detector, r.side, r.ood, r.metric)
            found.setdefault(key, r)
    return sorted(found.values(), key=lambda r: (r.dataset, r.eval_epsilon, r.seed))
