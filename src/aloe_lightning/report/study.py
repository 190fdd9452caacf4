"""A study is a folder of runs that stand in one table; whatever run ends last writes tables and figure for all."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from aloe_lightning.evaluation.records import Record
from aloe_lightning.paper.methods import OBJECTIVE_TITLES
from aloe_lightning.paper.published import Row
from aloe_lightning.report.captions import caption
from aloe_lightning.report.figure import save_figure, score_figure
from aloe_lightning.report.runs import Run, Scores, records_of_all, runs_in, together
from aloe_lightning.report.tables import base_epsilon, by_ood_csv, markdown, tidy_csv, tidy_rows
from aloe_lightning.storage.files import atomic_write

FIGURE_OBJECTIVES = ("oe", "aloe")


@dataclass(frozen=True)
class StudyReport:
    """What a study's folder now holds.

    Attributes:
        rows: of `tables.csv`.
        files: the files written.
        left_out: runs in the folder that were made under another setting or version and share no table with this one.
    """

    rows: list[Row]
    files: list[Path]
    left_out: list[Path]


def write_report(folder: Path, records: Sequence[Record]) -> StudyReport:
    """Tabulate and draw all finished runs of a study that are comparable to one of them.

    Args:
        folder: of the study; its runs are the sub-folders that hold a `records.jsonl`.
        records: of the run that ended last.
    """
    with FileLock(folder / ".tables.lock"):
        return _written(folder, records)


def _written(folder: Path, records: Sequence[Record]) -> StudyReport:
    found = runs_in(folder.glob("*/records.jsonl"))
    like = next(run for run in found if run.cell == records[0])
    chosen = together(found, like)
    everything = records_of_all(chosen)
    rows = tidy_rows(everything)
    files = [folder / "tables.csv", folder / "tables_by_ood.csv", folder / "tables.md"]
    texts = tidy_csv(rows), by_ood_csv(everything), markdown(rows, caption(everything))
    for path, text in zip(files, texts, strict=True):
        with atomic_write(path) as part:
            part.write_text(text)
    left_out = sorted({path.parent for path in folder.glob("*/records.jsonl")} - {run.folder for run in chosen})
    return StudyReport(rows, files + _draw(folder, chosen), left_out)


def shown_scores(runs: Sequence[Run]) -> tuple[dict[str, Scores], float]:
    """What Figure 2 shows, at the first budget and seed: scores of OE and ALOE, or of what there is; and the budget."""
    base = base_epsilon(runs[0].cell.dataset, [run.cell.eval_epsilon for run in runs])
    best: dict[str, Run] = {}
    for run in sorted(runs, key=lambda run: run.cell.seed):
        if "msp" in run.detectors() and run.cell.eval_epsilon == base:
            best.setdefault(run.cell.objective, run)
    shown = [name for name in FIGURE_OBJECTIVES if name in best] or sorted(best)[:1]
    return {OBJECTIVE_TITLES.get(name, name): best[name].scores() for name in shown}, base


def _draw(folder: Path, runs: list[Run]) -> list[Path]:
    methods, epsilon = shown_scores(runs)
    return save_figure(score_figure(methods, epsilon), folder, "scores") if methods else []
