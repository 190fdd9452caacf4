"""Files of a study, rewritten after each of its runs, and of the whole report.

A study is a folder of runs that share tables.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from filelock import FileLock

from aloe_lightning.paper.datasets import dataset_order
from aloe_lightning.report.drawings import chart_of, drawings_of
from aloe_lightning.report.figures.files import save_figure
from aloe_lightning.report.figures.scores import score_figure, shown_scores
from aloe_lightning.report.frame import records_frame, table_frame, without_hidden
from aloe_lightning.report.renderers import csv_files, html, latex, markdown, terminal
from aloe_lightning.report.renderers.page import Page
from aloe_lightning.report.runs import Collection, collect, last_used
from aloe_lightning.report.table_layouts import TableLayout, table_layouts
from aloe_lightning.report.texts import budget_text, notes_of
from aloe_lightning.report.verdict import verdicts_of
from aloe_lightning.storage.files import atomic_write, remove_parts

RECORDS = "*/records.jsonl"


class StudyReport(NamedTuple):
    """The numbers of a study (see `table_frame`), the files written, and the folders of runs that are not in them."""

    frame: pd.DataFrame
    files: list[Path]
    left_out: list[Path]


def write_study(folder: Path) -> StudyReport:
    """Tabulate and draw the largest group of comparable runs of each data set among the sub-folders of a study.

    Raises:
        UserError: if there is no finished run.
    """
    with FileLock(folder / ".tables.lock"):
        remove_parts(folder)
        collection = collect(folder, RECORDS)
        records, frame, tables = _tables(collection)
        texts = {"tables_by_ood.csv": csv_files.by_ood_csv(records)}
        files = _write_texts(folder, {**texts, "tables.md": "\n".join(map(markdown.markdown_table, tables))})
        if rows := [row for group in collection.groups.values() for row in shown_scores(group)]:
            files += save_figure(score_figure(rows), folder, "scores")
        # Last: a study whose tables.csv is newer than its results is complete (`_show_again` of cli/main.py).
        files += _write_texts(folder, {"tables.csv": csv_files.tables_csv(frame)})
        return StudyReport(frame, files, sorted(collection.left_out + collection.unreadable))


def show_studies(folder: Path, since: float) -> int:
    """Print the tables of each study under a folder that were written after a time, in seconds since the epoch.

    Returns:
        The number of studies.
    """
    written = [path.parent for path in sorted(folder.glob("*/tables.csv")) if path.stat().st_mtime >= since]
    studies = [study for study in written if any(study.glob(RECORDS))]  # a report in the folder is no study
    for study in studies:
        collection = collect(study, RECORDS)
        terminal.print_tables(_tables(collection)[-1], study)
        if fresh := [run for run in collection.left_out if last_used(run) >= since]:
            print(f"\nNOT in these tables of {study}, whose cells have other settings or images:", *fresh, sep="\n  ")
            print("study=NAME keeps them apart. Their own tables:\n")
            terminal.print_tables(_tables(collect(study, RECORDS, since))[-1], study)
    return len(studies)


def report(folder: Path, out: Path) -> list[Path]:
    """Write the report of all finished runs under a folder to the folder `out`, and return the paths of its files.

    They are `report.html`, `report.md`, `tables.tex`, `tables.csv`, `tables_by_ood.csv` and figures.

    Raises:
        UserError: if there are no finished runs.
    """
    collection = collect(folder)
    records, frame, tables = _tables(collection, intervals=True)
    notes = notes_of(collection, frame)
    seeds = ", ".join(map(str, sorted(set(records.seed))))
    missing = len(notes.get("Missing", ()))
    incomplete = f" {missing} lines of the tables are not complete, see below." if missing else ""
    verdicts = verdicts_of(frame)
    page = Page(
        title="Robust out-of-distribution detection",
        verdicts=verdicts,
        chart=chart_of(verdicts, frame),
        summary=f"{len(collection.runs)} cells on {', '.join(collection.groups)}, seed {seeds}.{incomplete}",
        tables=tables,
        drawings=drawings_of(collection, frame, verdicts),
        details=_each_ood_set(records),
        notes=notes,
    )
    out.mkdir(parents=True, exist_ok=True)
    texts = {
        "report.html": html.html_page(page),
        "report.md": markdown.markdown_page(page),
        "tables.tex": latex.latex_page(tables),
        "tables.csv": csv_files.tables_csv(frame),
        "tables_by_ood.csv": csv_files.by_ood_csv(records),
    }
    drawings = [*([] if page.chart is None else [page.chart]), *page.drawings]
    figures = [path for drawing in drawings for path in save_figure(drawing.figure, out, drawing.name)]
    return _write_texts(out, texts) + figures


def _tables(collection: Collection, *, intervals: bool = False) -> tuple[pd.DataFrame, pd.DataFrame, list[TableLayout]]:
    """Return records, numbers and layouts."""
    records = records_frame(collection.groups)
    frame = table_frame(records, intervals=intervals)
    return records, frame, table_layouts(frame, collection.groups)


def _each_ood_set(records: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Tabulate FPR95 and AUROC of every method on every OOD set, for the nets and attacks of each budget, by title."""
    shown = without_hidden(records[(records.ood != "") & records.side.isin(["none", "both"])])
    shown = shown[(shown.side == "none") | (shown.eval_epsilon > 0)]
    tables = {}
    places = shown.groupby(["dataset", "eval_epsilon", "side"])
    for (dataset, epsilon, side), rows in sorted(places, key=lambda place: (dataset_order(place[0][0]), *place[0][1:])):
        nets = f"clean, nets of {budget_text(epsilon)}" if epsilon else "clean"
        title = f"{dataset}, {nets if side == 'none' else budget_text(epsilon)}: FPR95 ↓ / AUROC ↑ on each OOD set"
        means = 100 * rows.groupby(["method", "ood", "metric"], sort=False).value.mean().unstack("metric")
        texts = (means.fpr95.map("{:.2f}".format) + " / " + means.auroc.map("{:.2f}".format)).unstack("ood")
        ordered = texts.loc[sorted(texts.index), rows.ood.unique()].fillna("–")
        tables[title] = ordered.rename(index=str).rename_axis(index=None, columns=None)
    return tables


def _write_texts(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    for name, text in texts.items():
        with atomic_write(folder / name) as part:
            part.write_text(text)
    return [folder / name for name in texts]
