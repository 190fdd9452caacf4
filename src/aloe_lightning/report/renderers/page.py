"""The parts of the report, and the formatting of numbers, for every output format."""

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any, NamedTuple

import pandas as pd

from aloe_lightning.report.figures.files import Drawing
from aloe_lightning.report.table_layouts import TableLayout
from aloe_lightning.report.verdict import Verdict


class Page(NamedTuple):
    """The report, top to bottom: a verdict on each data set and their chart come before any table.

    `details` are further tables of texts, `notes` lists of lines, both by title.
    """

    title: str
    verdicts: Sequence[Verdict]
    chart: Drawing | None
    summary: str
    tables: Sequence[TableLayout]
    drawings: Sequence[Drawing]
    details: Mapping[str, pd.DataFrame]
    notes: Mapping[str, Sequence[str]]


class CellFormat(NamedTuple):
    """Templates of a renderer for a missing number, a value, the best of a column, a margin, and the paper's number."""

    missing: str = "–"
    value: str = "{}"
    best: str = "{}"
    margin: str = ""
    published: str = ""

    def write(self, cell: Any, best: bool) -> str:
        """Write a cell of a layout, in percent with two decimals; differences have a true minus."""
        if cell is None:
            return self.missing
        text = (self.best if best else self.value).format(f"{cell.value:.2f}")
        if not isnan(cell.margin):
            interval = f"95 % interval {cell.low:.2f} to {cell.high:.2f}"
            hint = interval if cell.seeds == 1 else "standard deviation over seeds"
            text += self.margin.format(f"{cell.margin:.2f}", hint=hint)
        if not isnan(cell.published):
            difference = f"{cell.difference:+.2f}".replace("-", "−")
            text += self.published.format(f"{cell.published:.2f}", difference)
        return text
