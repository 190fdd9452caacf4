"""Layouts of the paper's Tables 1 to 4: the position of each number, for every output format."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import pandas as pd

from aloe_lightning.paper.datasets import dataset_order, in_paper
from aloe_lightning.report.frame import METRICS, TABLE_METRICS, attacked_as_trained
from aloe_lightning.report.runs import Groups
from aloe_lightning.report.texts import budget_text, table_caption, table_label

TITLES = {
    "table1": "In- against out-of-distribution test images, clean and attacked",
    "table2": "Images attacked to be misclassified that are rejected as OOD (1 − FPR at 95 % TPR) ↑",
    "table3": "In- against out-of-distribution test images under larger budgets",
    "table4": "Accuracy of the classifier ↑, clean and under PGD",
}
LOWER_IS_BETTER = ("fpr95", "detection_error")


class Column(NamedTuple):
    """A column of a table; columns are sorted by `order`, neighbours with the same heading share it."""

    order: tuple[Any, ...]
    heading: str
    name: str


class TableLayout(NamedTuple):
    """A table: columns under headings, and blocks of rows by their label; a row is a title and its cells.

    A cell is a row of `table_frame` as a named tuple, or None where the number is missing, with a mark for the best.
    The label is the short title; on the paper's data sets it is the paper's number of the table, which opens the title.
    """

    label: str
    title: str
    caption: str
    columns: list[Column]
    blocks: dict[str, list[tuple[str, tuple[tuple[Any, bool], ...]]]]

    @property
    def headings(self) -> list[tuple[str, int]]:
        """Each heading with the number of columns under it."""
        return [(heading, len(list(same))) for heading, same in groupby(column.heading for column in self.columns)]


def table_layouts(frame: pd.DataFrame, groups: Groups) -> list[TableLayout]:
    """Lay out the tables that have numbers, given the frame of `table_frame` and the runs that it is made from.

    The paper's data sets come first, in tables with the paper's numbers; other data sets have tables of their own.
    """
    of_paper = frame.dataset.map(in_paper).astype(bool)
    return [layout for rows in (frame[of_paper], frame[~of_paper]) for layout in _layouts(rows, groups)]


def _layouts(frame: pd.DataFrame, groups: Groups) -> list[TableLayout]:
    layouts = []
    for table, text in TITLES.items():
        if not (rows := list(_rows_of(table, frame))):
            continue
        short = table_label(table, rows[0].dataset)
        title = f"{short}. {text}" if in_paper(rows[0].dataset) else text
        columns = sorted({_column(row) for row in rows})
        blocks = {}
        for label in dict.fromkeys(map(_block, rows)):
            cells = {(row.method, _column(row)): row for row in rows if _block(row) == label}
            methods = sorted({method for method, _ in cells})
            marked = [_marked([cells.get((method, column)) for method in methods]) for column in columns]
            names = [method.title for method in methods]
            blocks[label] = list(zip(names, zip(*marked, strict=True), strict=True))
        layouts.append(TableLayout(short, title, table_caption(frame[frame.table == table], groups), columns, blocks))
    return layouts


def _marked(column: Sequence[Any]) -> list[tuple[Any, bool]]:
    """Mark the best numbers of a column, as they are shown, unless all are equal."""
    present = [cell for cell in column if cell is not None]
    choose = min if present and present[0].metric in LOWER_IS_BETTER else max
    shown = {round(cell.value, 2) for cell in present}
    best = choose(shown) if len(shown) > 1 else None
    return [(cell, cell is not None and round(cell.value, 2) == best) for cell in column]


def _block(row: Any) -> str:
    if row.table == "table1" and row.budget:
        return f"{row.dataset}, {budget_text(row.budget)}"
    return "" if row.table == "table2" else str(row.dataset)


def _column(row: Any) -> Column:
    """Table 3 has the paper's columns first, then those of the clean numbers."""
    attacked, text, rank = row.epsilon > 0, budget_text(row.budget), METRICS.index(row.metric)
    nets = f"nets of {text}" if row.budget else ""
    if row.table == "table1":
        return Column((attacked, rank), "with attack" if attacked else "without attack", TABLE_METRICS[row.metric])
    if row.table == "table2":
        return Column(dataset_order(row.dataset), row.dataset, text)
    if row.table == "table3":
        heading = text if attacked else f"clean, {nets}"
        return Column((not attacked, row.budget, rank), heading, TABLE_METRICS[row.metric])
    return Column((attacked, row.budget), "under PGD" if attacked else "clean", text if attacked else nets)


def _rows_of(table: str, frame: pd.DataFrame) -> Iterable[Any]:
    """Yield the rows of a table; the clean number of a net evaluated at several budgets is repeated for each budget."""
    rows = frame[frame.table == table]
    yield from rows.itertuples()
    if table in ("table3", "table4"):
        clean = frame[~attacked_as_trained(frame) & (frame.epsilon == 0) & (frame.table == table.replace("3", "1"))]
        attacked = {(row.dataset, row.method, row.epsilon) for row in rows.itertuples()}
        columns = {(row.dataset, row.budget) for row in rows[rows.epsilon == 0].itertuples()}
        for row in clean.itertuples():
            for dataset, budget in sorted(columns):
                if dataset == row.dataset and budget != row.budget and (dataset, row.method, budget) in attacked:
                    yield row._replace(table=table, budget=budget, published=float("nan"), difference=float("nan"))
