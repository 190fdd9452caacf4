"""Layouts of the paper's Tables 1 to 4: the position of each number, for every output format."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import pandas as pd

from aloe_lightning.paper.datasets import dataset_order
from aloe_lightning.report.captions import budget_text
from aloe_lightning.report.frame import METRICS, TABLE_METRICS

TITLES = {
    "table1": "Table 1. In- against out-of-distribution test images, clean and attacked",
    "table2": "Table 2. Images attacked to be misclassified that are rejected as OOD (1 − FPR at 95 % TPR) ↑",
    "table3": "Table 3. In- against out-of-distribution test images under larger budgets",
    "table4": "Table 4. Accuracy of the classifier ↑, clean and under PGD",
}
LOWER_IS_BETTER = ("fpr95", "detection_error")


class Estimate(NamedTuple):
    """A number of a table, in percent: columns of `table_frame`, NaN for unknown values."""

    metric: str
    value: float
    low: float
    high: float
    std: float
    published: float
    difference: float

    @classmethod
    def of(cls, row: Any) -> "Estimate":
        """Take the number of a row of `table_frame`."""
        return cls(*(getattr(row, name) for name in cls._fields))

    @property
    def has_interval(self) -> bool:
        """True for a number of a single seed whose interval was computed."""
        return self.low == self.low

    @property
    def margin(self) -> float | None:
        """Number after the plus-minus: half of the interval, else the deviation over seeds; None if unknown."""
        if self.has_interval:
            return (self.high - self.low) / 2
        return self.std if self.std == self.std else None

    @property
    def in_paper(self) -> bool:
        """True if the paper has this number."""
        return self.published == self.published


MarkedCell = tuple[Estimate | None, bool]


class Column(NamedTuple):
    """A column of a table; columns are sorted by `order`, neighbours with the same heading share it."""

    order: tuple[Any, ...]
    heading: str
    name: str


class Block(NamedTuple):
    """Rows under a label: the name of each, and its cells (None where one is missing) with a mark for the best."""

    label: str
    rows: list[tuple[str, tuple[MarkedCell, ...]]]


@dataclass(frozen=True)
class TableLayout:
    """A table: columns under headings, and blocks of rows; `name` is `table1` to `table4`."""

    name: str
    columns: list[Column]
    blocks: list[Block]

    @property
    def title(self) -> str:
        """Title with the table's number."""
        return TITLES[self.name]

    @property
    def headings(self) -> list[tuple[str, int]]:
        """Each heading with the number of columns under it."""
        return [(heading, len(list(same))) for heading, same in groupby(column.heading for column in self.columns)]


def table_layouts(frame: pd.DataFrame) -> list[TableLayout]:
    """Lay out the tables that have numbers, given the frame of `table_frame`."""
    layouts = []
    for name in TITLES:
        rows = list(_rows_of(name, frame))
        columns = sorted({_column(row) for row in rows})
        blocks = []
        for label in dict.fromkeys(map(_block, rows)):
            cells = {(row.method, _column(row)): Estimate.of(row) for row in rows if _block(row) == label}
            methods = sorted({method for method, _ in cells})
            marked = [_marked([cells.get((method, column)) for method in methods]) for column in columns]
            named = zip(methods, zip(*marked, strict=True), strict=True)
            blocks.append(Block(label, [(method.title, row) for method, row in named]))
        layouts += [TableLayout(name, columns, blocks)] if rows else []
    return layouts


def _marked(column: Sequence[Estimate | None]) -> list[MarkedCell]:
    """Mark the best number of a column, if there are two to compare."""
    present = [estimate for estimate in column if estimate is not None]
    choose = min if present and present[0].metric in LOWER_IS_BETTER else max
    best = choose(present, key=lambda estimate: estimate.value) if len(present) > 1 else None
    return [(estimate, estimate is not None and estimate is best) for estimate in column]


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
        serves_several = frame.trained_at.isna() | frame.method.map(lambda method: method.trained_at is not None)
        clean = frame[serves_several & (frame.epsilon == 0) & (frame.table == table.replace("3", "1"))]
        attacked = {(row.dataset, row.method, row.epsilon) for row in rows.itertuples()}
        columns = {(row.dataset, row.budget) for row in rows[rows.epsilon == 0].itertuples()}
        for row in clean.itertuples():
            for dataset, budget in sorted(columns):
                if dataset == row.dataset and budget != row.budget and (dataset, row.method, budget) in attacked:
                    nan = float("nan")
                    yield row._replace(table=table, budget=budget, published=nan, difference=nan)
