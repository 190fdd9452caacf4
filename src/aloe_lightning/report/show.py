"""The tables of finished studies on a terminal or in a log."""

import sys
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from aloe_lightning.report.tables import paper_shape, read_tidy_csv


def show_study(folder: Path) -> None:
    """Print a study's table in the paper's shape, and where the files are."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    rows = read_tidy_csv((folder / "tables.csv").read_text())
    for dataset in dict.fromkeys(row.dataset for row in rows):
        header, body = paper_shape(rows, dataset)
        title = f"{dataset}: means over the OOD test sets, percent"
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
        for index, name in enumerate(header):
            widest = 0 if index else max(len(line[0]) for line in body)
            table.add_column(name, justify="right" if index else "left", no_wrap=True, min_width=widest)
        for line in body:
            table.add_row(*line)
        console.print(table)
    console.print(f"Tables and figure: {folder}", soft_wrap=True, highlight=False)


def show_studies(folder: Path, since: float) -> int:
    """Print every study under a folder whose tables were written after a time (seconds since the epoch); how many."""
    found = [path.parent for path in sorted(folder.glob("*/tables.csv")) if path.stat().st_mtime >= since]
    for study in found:
        show_study(study)
    return len(found)
