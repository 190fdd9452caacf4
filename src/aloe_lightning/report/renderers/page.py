"""The parts of the report, and the formatting of numbers, for every output format."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from aloe_lightning.report.figures.files import Drawing
from aloe_lightning.report.table_layouts import Estimate, TableLayout


@dataclass(frozen=True)
class Page:
    """The report, top to bottom.

    Attributes:
        title: title of the page.
        summary: line below the title.
        tables: tables with their captions.
        drawings: figures.
        details: further tables of texts, by title.
        notes: headed lists of lines, such as the missing cells.
    """

    title: str
    summary: str
    tables: Sequence[tuple[TableLayout, str]]
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

    def write(self, estimate: Estimate | None, best: bool) -> str:
        """Write a cell, in percent with two decimals; differences have a true minus."""
        if estimate is None:
            return self.missing
        text = (self.best if best else self.value).format(f"{estimate.value:.2f}")
        if estimate.margin is not None:
            hint = f"95 % interval {estimate.low:.2f} to {estimate.high:.2f}"
            hint = hint if estimate.has_interval else "standard deviation over seeds"
            text += self.margin.format(f"{estimate.margin:.2f}", hint=hint)
        if estimate.in_paper:
            difference = f"{estimate.difference:+.2f}".replace("-", "−")
            text += self.published.format(f"{estimate.published:.2f}", difference)
        return text
