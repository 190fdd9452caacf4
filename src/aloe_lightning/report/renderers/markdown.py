"""Tables as Markdown; each number with its margin, the paper's number, and the difference."""

from collections.abc import Sequence

from aloe_lightning.report.figures.files import Drawing
from aloe_lightning.report.renderers.page import CellFormat, Page
from aloe_lightning.report.table_layouts import TableLayout

CELL = CellFormat(best="**{}**", margin=" ± {}", published="<br>({}, {})")


def markdown_table(layout: TableLayout) -> str:
    """Write a table for a page that shows Markdown; the best of a column is bold."""
    header = ["", *("<br>".join(filter(None, (column.heading, column.name))) for column in layout.columns)]
    lines = [f"**{layout.title}**", "", _line(header), "|:--" + "|--:" * len(layout.columns) + "|"]
    for label, rows in layout.blocks.items():
        if label:
            lines.append(_line([f"**{label}**", *[""] * len(layout.columns)]))
        for name, cells in rows:
            lines.append(_line([name, *(CELL.write(*cell) for cell in cells)]))
    return "\n".join([*lines, "", layout.caption, ""])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _figure(drawing: Drawing) -> list[str]:
    return [f"![{drawing.title}]({drawing.name}.png)", "", f"{drawing.title}. {drawing.caption}", ""]


def markdown_page(page: Page) -> str:
    """Write the whole report but for the tables of each OOD set; figures are links to the files next to it."""
    parts = [f"# {page.title}", ""]
    for verdict in page.verdicts:
        parts += [f"**{verdict.headline}**", "", *(f"- {line}" for line in verdict.lines), ""]
    parts += [*([] if page.chart is None else _figure(page.chart)), page.summary, ""]
    parts += [f"{markdown_table(table)}\n" for table in page.tables]
    for drawing in page.drawings:
        parts += _figure(drawing)
    for title, lines in page.notes.items():
        parts += [f"## {title}", "", *(f"- {line}" for line in lines), ""]
    return "\n".join(parts)
