"""What lies in a folder of results: for each data set the largest group of runs that stand together, and the rest."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aloe_lightning.errors import UserError
from aloe_lightning.evaluation.records import Record
from aloe_lightning.paper.methods import DATASET_TITLES
from aloe_lightning.report.grids import dataset_order
from aloe_lightning.report.runs import Run, records_of_all, runs_in, together


@dataclass(frozen=True)
class Group:
    """Runs of one data set that stand in one table."""

    runs: list[Run]

    @property
    def title(self) -> str:
        """Of the data set."""
        name = self.runs[0].cell.dataset
        return DATASET_TITLES.get(name, name)

    @property
    def records(self) -> list[Record]:
        """Every number once."""
        return records_of_all(self.runs)


@dataclass(frozen=True)
class Collection:
    """What a report is made of.

    Attributes:
        groups: one for each data set, in the paper's order.
        left_out: runs of other settings or pixels, or that contradict those of the groups.
        unreadable: records of another version of this package.
    """

    groups: list[Group]
    left_out: list[Path]
    unreadable: list[Path]


def collect(folder: Path) -> Collection:
    """Everything under a folder, however deep.

    Raises:
        UserError: if there is nothing.
    """
    files = sorted(folder.rglob("records.jsonl")) if folder.is_dir() else []
    runs = runs_in(files)
    if not runs:
        others = f", but {len(files)} of another version" if files else ""
        raise UserError(f"no finished runs under {folder.absolute()}{others}: give the folder that outputs went to")
    groups = []
    for dataset in dict.fromkeys(run.cell.dataset for run in runs):
        groups.append(Group(_largest([run for run in runs if run.cell.dataset == dataset])))
    groups.sort(key=lambda group: dataset_order(group.title))
    taken = {run.folder for group in groups for run in group.runs}
    left_out = sorted({run.folder for run in runs} - taken)
    return Collection(groups, left_out, sorted({path.parent for path in files} - {run.folder for run in runs}))


def _largest(runs: Sequence[Run]) -> list[Run]:
    """Of the groups of runs that stand together the one with most runs; of equals the one of the latest run."""
    best: list[Run] = []
    rest = list(runs)
    while rest:
        group = together(rest, rest[0])
        best = group if len(group) > len(best) else best
        rest = [run for run in rest if run.folder not in {one.folder for one in group}]
    return best
