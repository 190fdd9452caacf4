"""Tables on a terminal or in a log: the values alone."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aloe_lightning.report.renderers.page import CellFormat
from aloe_lightning.report.table_layouts import TableLayout

MOST_COLUMNS = 9


def print_tables(layouts: Sequence[TableLayout], folder: Path) -> None:
    """Print a study's tables, wide ones in parts, and where its files are."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    for layout in layouts:
        console.print(layout.title, highlight=False)
        for start in range(0, len(layout.columns), MOST_COLUMNS):
            part = slice(start, start + MOST_COLUMNS)
            table = Table(box=box.SIMPLE_HEAD)
            table.add_column(no_wrap=True)
            for column in layout.columns[part]:
                table.add_column(f"{column.heading}\n{column.name}".strip(), justify="right")
            for label, rows in layout.blocks.items():
                if label:
                    table.add_row(Text(label, style="bold"))
                for name, row in rows:
                    table.add_row(Text(name), *(CellFormat().write(*cell) for cell in row[part]))
            console.print(table)
    where = f"Percent; numbers of detectors are means over the OOD test sets. Tables and figure: {folder}"
    console.print(where, soft_wrap=True, highlight=False)
