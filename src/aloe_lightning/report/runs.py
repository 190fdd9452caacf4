"""The finished runs of a folder, and the largest group of each data set that may share a table."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from aloe_lightning.errors import UserError
from aloe_lightning.evaluation.examples import Examples, Side, load_examples
from aloe_lightning.evaluation.records import Cell, Record, read_records
from aloe_lightning.evaluation.scores import Scores
from aloe_lightning.paper.datasets import dataset_order, dataset_title
from aloe_lightning.paper.methods import Method
from aloe_lightning.storage.cells import facts_of


@dataclass(frozen=True)
class Run:
    """A finished cell on disk; it has at least one record."""

    folder: Path
    records: list[Record]

    @property
    def cell(self) -> Cell:
        """The fields that all its records share."""
        return self.records[0]

    @property
    def weights(self) -> str:
        """SHA-256 of the evaluated weights; "" if it is not known."""
        return str(facts_of(self.folder).get("weights", ""))

    def scores(self) -> Scores:
        """Read the raw scores."""
        return Scores.load(self.folder / "scores.npz")

    def examples(self) -> dict[tuple[str, Side], Examples]:
        """Read the images that the attack moved furthest, by detector and side; none if the run kept none."""
        return load_examples(self.folder)

    def detectors(self) -> dict[str, str]:
        """Return the fingerprint of each detector's settings by its key."""
        return {r.detector: r.detector_settings for r in self.records if r.detector}


Groups = dict[str, list[Run]]
"""Comparable runs by the title of their data set, in the paper's order; of the same cell the latest comes first."""


class Collection(NamedTuple):
    """The runs of a report, and the folders that are not shown.

    Runs in `left_out` have a different protocol, detector settings or images; runs in `unreadable` are of another
    version or have no scores.
    """

    groups: Groups
    left_out: list[Path]
    unreadable: list[Path]

    @property
    def runs(self) -> list[Run]:
        """The runs of all groups."""
        return [run for group in self.groups.values() for run in group]


def collect(folder: Path, pattern: str = "**/records.jsonl", since: float = 0) -> Collection:
    """Group the finished runs under a folder whose files of records match a pattern.

    Args:
        folder: where to search.
        pattern: of the files of records.
        since: seconds since the epoch; runs whose `config.json` is older are ignored.

    Raises:
        UserError: if there are no finished runs.
    """
    files = sorted(folder.glob(pattern)) if folder.is_dir() else []
    if since:
        files = [file for file in files if last_used(file.parent) >= since]
    runs = _finished_runs(files)
    if not runs:
        others = f", but {len(files)} of another version" if files else ""
        raise UserError(f"no finished runs under {folder.absolute()}{others}: give the folder that outputs went to")
    datasets = sorted({run.cell.dataset for run in runs}, key=lambda name: dataset_order(dataset_title(name)))
    groups = {dataset_title(name): _largest_group([r for r in runs if r.cell.dataset == name]) for name in datasets}
    readable, chosen = {run.folder for run in runs}, {run.folder for group in groups.values() for run in group}
    return Collection(groups, sorted(readable - chosen), sorted({path.parent for path in files} - readable))


def last_used(run: Path) -> float:
    """Return when a run was computed or asked for again, in seconds since the epoch; 0 if it is unfinished."""
    config = run / "config.json"
    return config.stat().st_mtime if config.is_file() else 0


def _finished_runs(files: Iterable[Path]) -> list[Run]:
    """Read files of records, the latest first; skip records of another version and runs without scores."""
    runs = []
    for path in sorted(files, key=lambda path: (-path.stat().st_mtime, path)):
        try:
            records = read_records(path)
        except UserError:
            continue
        if records and (path.parent / "scores.npz").is_file():
            runs.append(Run(path.parent, records))
    return runs


def _largest_group(runs: Sequence[Run]) -> list[Run]:
    """Choose the largest group of comparable runs, given the latest first; of equals the latest."""
    # A run without outliers fits several groups, so a group is formed around each run.
    chosen = {run.folder for run in max((_comparable_to(run, runs) for run in runs), key=len)}

    def content(run: Run) -> tuple[Method, float, int]:
        cell = run.cell
        objective = Method(cell.objective, "", cell.objective_title, "", cell.train_epsilon)
        return objective, cell.eval_epsilon, cell.seed

    return sorted((run for run in runs if run.folder in chosen), key=content)


def _comparable_to(reference: Run, runs: Iterable[Run]) -> list[Run]:
    """Return the runs with the same protocol, images and detector settings as a reference.

    Of runs that contradict each other the first in the sequence is taken; a run without outliers fits any outliers.
    """
    outliers, detectors = reference.cell.outlier_pixels, reference.detectors()
    chosen = [reference]
    for run in runs:
        cell, settings = run.cell, run.detectors()
        same = (cell.protocol, cell.pixels) == (reference.cell.protocol, reference.cell.pixels)
        agree = all(detectors.get(key, setting) == setting for key, setting in settings.items())
        if run.folder == reference.folder or not (same and agree) or len({outliers, cell.outlier_pixels} - {""}) > 1:
            continue
        chosen.append(run)
        outliers, detectors = outliers or cell.outlier_pixels, {**settings, **detectors}
    return chosen
