"""The whole report of a folder of results, in every format."""

from pathlib import Path

import pandas as pd

from aloe_lightning.paper.datasets import dataset_order
from aloe_lightning.report.captions import budget_text, trained_at_attack
from aloe_lightning.report.figures.curves import curves_figure
from aloe_lightning.report.figures.files import Drawing, save_figure
from aloe_lightning.report.figures.score_histograms import score_figure, score_panels
from aloe_lightning.report.frame import records_frame, table_frame
from aloe_lightning.report.notes import notes_of
from aloe_lightning.report.renderers.csv_files import by_ood_csv, tables_csv
from aloe_lightning.report.renderers.html import html_page
from aloe_lightning.report.renderers.latex import latex_page
from aloe_lightning.report.renderers.markdown import markdown_page
from aloe_lightning.report.renderers.page import Page
from aloe_lightning.report.runs import Collection, collect
from aloe_lightning.report.study import tables_with_captions, write_texts


def report(folder: Path, out: Path) -> list[Path]:
    """Write the report of all finished runs under a folder.

    Args:
        folder: folder of results.
        out: folder for `report.html`, `report.md`, `tables.tex`, `tables.csv`, `tables_by_ood.csv` and figures.

    Returns:
        The files written.

    Raises:
        UserError: if there are no finished runs.
    """
    collection = collect(folder)
    records = records_frame(collection.groups)
    frame = table_frame(records, collection.runs)
    notes = notes_of(collection, frame)
    page = Page(
        title="Robust out-of-distribution detection",
        summary=_summary(collection, len(notes.get("Missing", ()))),
        tables=tables_with_captions(frame, collection.groups),
        drawings=_drawings(collection, frame),
        details=each_ood_set(records),
        notes=notes,
    )
    out.mkdir(parents=True, exist_ok=True)
    texts = {
        "report.html": html_page(page),
        "report.md": markdown_page(page),
        "tables.tex": latex_page(page.tables),
        "tables.csv": tables_csv(frame),
        "tables_by_ood.csv": by_ood_csv(records),
    }
    figures = [path for drawing in page.drawings for path in save_figure(drawing.figure, out, drawing.name)]
    return write_texts(out, texts) + figures


def _summary(collection: Collection, missing: int) -> str:
    seeds = ", ".join(map(str, sorted({run.cell.seed for run in collection.runs})))
    sets = ", ".join(group.dataset for group in collection.groups)
    incomplete = f" {missing} lines of the tables are not complete, see below." if missing else ""
    return f"{len(collection.runs)} cells on {sets}, seed {seeds}.{incomplete}"


def _drawings(collection: Collection, frame: pd.DataFrame) -> list[Drawing]:
    drawings = []
    for group in collection.groups:
        if panels := score_panels(group):
            at_budget = f" at {budget_text(panels[0].epsilon)}" if panels[0].epsilon else ""
            caption = (
                "Share of images by their maximum softmax probability, in-distribution against all OOD test sets "
                f"together; left clean, right attacked on both sides{at_budget}."
            )
            name = f"scores_{group[0].cell.dataset}"
            drawings.append(Drawing(f"Figure 2, {group.dataset}", caption, name, score_figure(panels)))
    if (figure := curves_figure(frame)) is not None:
        caption = "Means over the OOD test sets against the budget of the attack; bands are the margins of the tables."
        if names := trained_at_attack(frame):
            clean = "their clean numbers (ε = 0) are of the nets of the first budget"
            caption += f" {names}: trained at the budget that attacks them; {clean}."
        drawings.append(Drawing("Against the budget", caption, "curves", figure))
    return drawings


def each_ood_set(records: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Tabulate FPR95 and AUROC of every method on every OOD set, clean and attacked, for the nets of each budget.

    Returns:
        Texts by title; rows are methods, columns OOD sets.
    """
    shown = records[(records.ood != "") & records.side.isin(["none", "both"])]
    shown = shown[~shown.method.map(lambda method: method.hidden)]
    tables = {}
    places = shown.groupby(["dataset", "eval_epsilon", "side"])
    for (dataset, epsilon, side), rows in sorted(places, key=lambda place: (dataset_order(place[0][0]), *place[0][1:])):
        if side == "both" and epsilon == 0:
            continue
        nets = f"clean, nets of {budget_text(epsilon)}" if epsilon else "clean"
        title = f"{dataset}, {nets if side == 'none' else budget_text(epsilon)}: FPR95 ↓ / AUROC ↑ on each OOD set"
        values = 100 * rows.groupby(["method", "ood", "metric"], sort=False).value.mean().unstack("metric")
        texts = (values.fpr95.map("{:.2f}".format) + " / " + values.auroc.map("{:.2f}".format)).unstack("ood")
        tables[title] = (
            texts.loc[sorted(texts.index), list(dict.fromkeys(rows.ood))]
            .fillna("–")
            .rename(index=str)
            .rename_axis(index=None, columns=None)
        )
    return tables
