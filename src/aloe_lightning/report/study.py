"""A study is a folder of runs that stand in one table; whatever run ends last writes tables and figure for all."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aloe_lightning.atomic import replacing
from aloe_lightning.errors import UserError
from aloe_lightning.records import Cell, Record, read_records
from aloe_lightning.report.figure import write_figure
from aloe_lightning.report.methods import OBJECTIVE_TITLES, OUTLIER_TITLES
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


def write_report(folder: Path, like: Cell) -> StudyReport:
    """Tabulate and draw all finished runs of a study that are comparable to one of them.

    Args:
        folder: of the study; its runs are the sub-folders that hold a `records.jsonl`.
        like: setting and data of the runs to take.
    """
    runs = {path.parent: _readable(path) for path in sorted(folder.glob("*/records.jsonl"))}
    chosen = {run: records for run, records in runs.items() if records and _comparable(records[0], like)}
    left_out = [run for run in runs if run not in chosen]
    records = [record for run in chosen.values() for record in run]
    rows = tidy_rows(records)
    files = [folder / "tables.csv", folder / "tables_by_ood.csv", folder / "tables.md"]
    for path, text in zip(files, (tidy_csv(rows), by_ood_csv(records), markdown(rows, caption(records))), strict=True):
        with replacing(path) as part:
            part.write_text(text)
    return StudyReport(rows, files + _draw(folder, chosen), left_out)


def _comparable(cell: Cell, other: Cell) -> bool:
    """Whether two cells come from the same setting and the same pixels; an objective without outliers has none."""
    outliers = {cell.outlier_pixels, other.outlier_pixels} - {""}
    return (cell.setting, cell.pixels) == (other.setting, other.pixels) and len(outliers) <= 1


def _readable(path: Path) -> list[Record]:
    """The records of a run; none if they are of another version, which is no reason to fail this one."""
    try:
        return read_records(path)
    except UserError:
        return []


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


def _draw(folder: Path, runs: dict[Path, list[Record]]) -> list[Path]:
    """Figure 2 for the first seed at the smallest epsilon, with those of OE and ALOE that are there."""
    best: dict[str, tuple[tuple[float, int], Path]] = {}
    for run, records in runs.items():
        place = (records[0].eval_epsilon, records[0].seed)
        name = records[0].objective
        if name not in best or place < best[name][0]:
            best[name] = (place, run)
    shown = [name for name in FIGURE_OBJECTIVES if name in best] or sorted(best)[:1]
    methods = {}
    for name in shown:
        with np.load(best[name][1] / "scores.npz", allow_pickle=False) as arrays:
            methods[OBJECTIVE_TITLES.get(name, name)] = {key: arrays[key] for key in arrays.files}
    if not all("msp/id/clean" in scores for scores in methods.values()):
        return []
    return write_figure(folder, methods, best[shown[0]][0][0])
