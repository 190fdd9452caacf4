"""A study is a folder of runs that stand in one table; whatever run ends last writes tables and figure for all."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aloe_lightning.atomic import replacing
from aloe_lightning.records import Record
from aloe_lightning.report.figure import write_figure
from aloe_lightning.report.methods import OBJECTIVE_TITLES, OUTLIER_TITLES
from aloe_lightning.report.runs import Run, records_of_all, runs_in, together
from aloe_lightning.report.tables import Row, by_ood_csv, markdown, tidy_csv, tidy_rows

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
    found = runs_in(folder.glob("*/records.jsonl"))
    like = next(run for run in found if run.cell == records[0])
    chosen = together(found, like)
    everything = records_of_all(chosen)
    rows = tidy_rows(everything)
    files = [folder / "tables.csv", folder / "tables_by_ood.csv", folder / "tables.md"]
    texts = tidy_csv(rows), by_ood_csv(everything), markdown(rows, caption(everything))
    for path, text in zip(files, texts, strict=True):
        with replacing(path) as part:
            part.write_text(text)
    left_out = sorted({path.parent for path in folder.glob("*/records.jsonl")} - {run.folder for run in chosen})
    return StudyReport(rows, files + _draw(folder, chosen), left_out)


def caption(records: list[Record]) -> str:
    """What the numbers are: data, counts, attack and conventions."""
    first = records[0]
    sets = {r.ood: r.num_ood for r in records if r.ood}
    outliers = next((r.outliers for r in records if r.outliers), "none")
    title = OUTLIER_TITLES.get(outliers, outliers)
    second = " (Mahalanobis: Algorithm 2)" if any(r.detector == "mahalanobis" for r in records) else ""
    seeds = sorted({r.seed for r in records})
    return (
        f"Net {first.net}, outliers {title}; {first.num_id} in-distribution {first.split} images, OOD test sets "
        + ", ".join(f"{name} ({count})" for name, count in sets.items())
        + f"; attacked on both sides by Algorithm 1{second} ({first.regime} regime, rounding {first.rounding}); "
        f"means over the OOD sets in percent; seed {', '.join(map(str, seeds))}. FPR95 at the threshold whose ID true "
        "positive rate is nearest to 95 %; ties count one half in AUROC."
    )


def _draw(folder: Path, runs: list[Run]) -> list[Path]:
    """Figure 2 for the first seed at the smallest epsilon, with those of OE and ALOE that are there."""
    best: dict[str, Run] = {}
    for run in sorted(runs, key=lambda run: (run.cell.eval_epsilon, run.cell.seed)):
        if "msp" in run.detectors():
            best.setdefault(run.cell.objective, run)
    shown = [name for name in FIGURE_OBJECTIVES if name in best] or sorted(best)[:1]
    if not shown:
        return []
    methods = {OBJECTIVE_TITLES.get(name, name): best[name].scores() for name in shown}
    return write_figure(folder, methods, best[shown[0]].cell.eval_epsilon)
