"""The whole report of a folder of results, in every form."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aloe_lightning.paper.methods import OBJECTIVE_TITLES, budget, method_of, method_order, objective_order, row_order
from aloe_lightning.paper.published import published_rows
from aloe_lightning.report.captions import conventions, data_of
from aloe_lightning.report.collect import Collection, Group, collect
from aloe_lightning.report.curves import curves_figure
from aloe_lightning.report.figure import save_figure, score_figure
from aloe_lightning.report.grids import Grid, grids, missing
from aloe_lightning.report.measures import Measure, measures, measures_csv
from aloe_lightning.report.ordering import ordering
from aloe_lightning.report.page import Details, Figure, Page, html
from aloe_lightning.report.provenance import machine_of, training_of
from aloe_lightning.report.runs import Run
from aloe_lightning.report.study import shown_scores
from aloe_lightning.report.tables import base_epsilon, by_ood_csv
from aloe_lightning.report.write import LATEX_HEAD, latex_table, markdown_table
from aloe_lightning.storage.files import atomic_write

READING = (
    "± is half of the 95 % bootstrap interval over test images for one seed, "
    "the standard deviation over seeds for several."
)
WILSON = "± is half of Wilson's 95 % interval for one seed, the standard deviation over seeds for several."
RANKS = "Spearman's rank correlation of AUROC with the paper's, and both orders:"
BESIDE = "In parentheses, or below: the paper's number, and ours less the paper's."
CLASSIFIER = "Attacked by PGD on the cross-entropy of the true class, in percent."


def report(folder: Path, out: Path) -> list[Path]:
    """Write the report of everything under a folder.

    Args:
        folder: of results.
        out: where `report.html`, `report.md`, `tables.tex`, `tables.csv`, `tables_by_ood.csv` and figures go.

    Returns:
        The files written.

    Raises:
        UserError: if there are no finished runs.
    """
    collection = collect(folder)
    found = [measure for group in collection.groups for measure in measures(group.runs)]
    tables = [(grid, _caption(grid, collection, found)) for grid in grids(found)]
    drawings = _drawings(collection, found)
    gaps = missing(found, published_rows())
    page = Page(
        title="Robust out-of-distribution detection",
        summary=_summary(collection, gaps),
        tables=tables,
        figures=[Figure(title, _svg(figure, name), text) for title, text, name, figure in drawings],
        details=[table for group in collection.groups for table in _each_ood_set(group)],
        notes=_notes(collection, gaps, found),
    )
    out.mkdir(parents=True, exist_ok=True)
    everything = [record for group in collection.groups for record in group.records]
    texts = {
        "report.html": html(page),
        "report.md": _markdown(page, [(title, name, text) for title, text, name, _ in drawings]),
        "tables.tex": LATEX_HEAD + "\n".join(latex_table(grid, text) for grid, text in tables),
        "tables.csv": measures_csv(found),
        "tables_by_ood.csv": by_ood_csv(everything),
    }
    written = []
    for name, text in texts.items():
        with atomic_write(out / name) as part:
            part.write_text(text)
        written.append(out / name)
    for _, _, name, figure in drawings:
        written += save_figure(figure, out, name)
    return written


def _caption(grid: Grid, collection: Collection, found: Sequence[Measure]) -> str:
    """Conventions, how to read a cell, and the data of each block."""
    mine = [m for m in found if m.row.table == grid.name]
    groups = [group for group in collection.groups if group.title in {m.row.dataset for m in mine}]
    if grid.name == "table4":
        parts = [CLASSIFIER]
    elif grid.name == "table2":
        parts = [CLASSIFIER, "The threshold has a TPR of 95 % on the clean images."]
    else:
        parts = list(dict.fromkeys(conventions(group.records) for group in groups))
    if grid.name == "table3" and not any("trained at" in m.row.method for m in mine):
        parts.append("ADV, AOE and ALOE are trained at the budget that attacks them.")
    parts.append(WILSON if grid.name == "table4" else READING)
    if any(m.published is not None for m in mine):
        parts.append(BESIDE)
    titles: dict[str, list[str]] = {}
    for group in groups:
        titles.setdefault(data_of(group.records), []).append(group.title)
    return " ".join([*parts, *(f"{', '.join(names)}: {text}" for text, names in titles.items())])


def _summary(collection: Collection, gaps: Sequence[str]) -> str:
    runs = [run for group in collection.groups for run in group.runs]
    seeds = sorted({run.cell.seed for run in runs})
    sets = ", ".join(group.title for group in collection.groups)
    rest = f" {len(gaps)} lines of the tables are not complete, see below." if gaps else ""
    return f"{len(runs)} cells on {sets}, seed {', '.join(map(str, seeds))}.{rest}"


def _drawings(collection: Collection, found: Sequence[Measure]) -> list[tuple[str, str, str, Any]]:
    """Title, caption, file name and matplotlib figure of each drawing."""
    drawings: list[tuple[str, str, str, Any]] = []
    for group in collection.groups:
        scores, epsilon = shown_scores(group.runs)
        if scores:
            text = (
                "Share of images by their maximum softmax probability, in-distribution against all OOD test sets "
                f"together; left clean, right attacked on both sides{f' at {budget(epsilon)}' if epsilon else ''}."
            )
            name = f"scores_{group.runs[0].cell.dataset}"
            drawings.append((f"Figure 2, {group.title}", text, name, score_figure(scores, epsilon)))
    curves = curves_figure(found)
    if curves is not None:
        text = (
            "Means over the OOD test sets against the budget of the attack, with the margins of the tables as bands. "
            "ADV, AOE and ALOE are trained at the budget that attacks them; their clean numbers (ε = 0) are of the "
            "nets of the first."
        )
        drawings.append(("Against the budget", text, "curves", curves))
    return drawings


def _each_ood_set(group: Group) -> list[Details]:
    """FPR95 and AUROC of every method on every OOD set, clean and attacked at each budget."""
    records = group.records
    base = base_epsilon(records[0].dataset, [r.eval_epsilon for r in records])
    sets = list(dict.fromkeys(r.ood for r in records if r.ood))
    tables = []
    for epsilon in sorted({r.eval_epsilon for r in records}):
        for side in ("none", "both") if epsilon == base else ("both",):
            chosen = [
                r for r in records if r.eval_epsilon == epsilon and r.side == side and r.ood and row_order(method_of(r))
            ]
            values: dict[tuple[str, str, str], list[float]] = {}
            for r in chosen:
                values.setdefault((method_of(r), r.ood, r.metric), []).append(100 * r.value)
            methods = sorted({method for method, _, _ in values}, key=method_order)

            def cell(method: str, ood: str, values: dict[tuple[str, str, str], list[float]] = values) -> str:
                return " / ".join(
                    f"{sum(each) / len(each):.2f}" if (each := values.get((method, ood, metric))) else "–"
                    for metric in ("fpr95", "auroc")
                )

            title = f"{group.title}, {budget(0 if side == 'none' else epsilon)}: FPR95 ↓ / AUROC ↑ on each OOD set"
            tables.append(Details(title, ["", *sets], [[m, *(cell(m, ood) for ood in sets)] for m in methods]))
    return tables


def _training_order(run: Run) -> tuple[int, str]:
    return objective_order(OBJECTIVE_TITLES.get(run.cell.objective, run.cell.objective))


def _notes(collection: Collection, gaps: Sequence[str], found: Sequence[Measure]) -> dict[str, Sequence[str]]:
    notes: dict[str, Sequence[str]] = {}
    if orders := ordering(found):
        notes["Order of methods"] = [RANKS, *orders]
    if gaps:
        notes["Missing"] = gaps
    if collection.left_out:
        notes["Left out"] = [f"of another setting or other pixels: {path}" for path in collection.left_out]
    if collection.unreadable:
        notes["Not read"] = [f"records of another version, or without scores: {path}" for path in collection.unreadable]
    runs = [run for group in collection.groups for run in sorted(group.runs, key=_training_order)]
    trained = list(dict.fromkeys(line for run in runs for line in training_of(run.folder)))
    if trained:
        notes["Trained on"] = trained
    notes["Made by"] = sorted({line for run in runs for line in machine_of(run.folder)})
    return notes


def _markdown(page: Page, drawings: Sequence[tuple[str, str, str]]) -> str:
    parts = [f"# {page.title}", "", page.summary, ""]
    parts += [f"{markdown_table(grid, text)}\n" for grid, text in page.tables]
    for title, name, text in drawings:
        parts += [f"![{title}]({name}.png)", "", f"{title}. {text}", ""]
    for title, lines in page.notes.items():
        parts += [f"## {title}", "", *(f"- {line}" for line in lines), ""]
    return "\n".join(parts)


def _svg(figure: Any, name: str) -> str:
    """The same text for the same figure; names within it are not those of another figure of the page."""
    import matplotlib as mpl

    stream = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()
