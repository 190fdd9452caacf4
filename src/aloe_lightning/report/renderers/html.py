"""The report as one HTML page that needs no other file: tables, figures, every OOD set, notes."""

import io
from html import escape
from importlib.resources import files

from aloe_lightning.report.renderers.page import CellFormat, Drawing, Page
from aloe_lightning.report.table_layouts import TableLayout

CELL = CellFormat(
    value='<span class="value">{}</span>',
    best='<span class="value best">{}</span>',
    margin=' <small title="{hint}">±{}</small>',
    published='<small class="paper" title="the paper, and ours less the paper\'s">{}, {}</small>',
)


def html_page(page: Page) -> str:
    """Write the whole page."""
    style = files("aloe_lightning.report.renderers").joinpath("page.css").read_text()
    sections = [(layout.title.split(".")[0], _table(layout)) for layout in page.tables]
    for drawing in page.drawings:
        caption = f"<figcaption>{escape(drawing.caption)}</figcaption>"
        sections.append((drawing.title, f"{_heading(drawing.title)}<figure>{svg_of(drawing)}\n{caption}</figure>"))
    if page.details:
        tables = [
            f'<details><summary>{escape(title)}</summary><div class="wide">{table.to_html(border=0)}</div></details>'
            for title, table in page.details.items()
        ]
        sections.append(("Each OOD set", "\n".join([_heading("Each OOD set"), *tables])))
    for title, lines in page.notes.items():
        items = [f"<li>{escape(line)}</li>" for line in lines]
        sections.append((title, "\n".join([f"{_heading(title)}<ul>", *items, "</ul>"])))
    links = [f'<a href="#section{k}">{escape(title)}</a>' for k, (title, _) in enumerate(sections)]
    parts = [f"<h1>{escape(page.title)}</h1>", f"<p>{escape(page.summary)}</p>", f"<nav>{' '.join(links)}</nav>"]
    parts += [f'<section id="section{k}">{text}</section>' for k, (_, text) in enumerate(sections)]
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(page.title)}</title>\n<style>\n{style}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def svg_of(drawing: Drawing) -> str:
    """Return the `<svg>` element, the same text for the same figure."""
    import matplotlib as mpl

    stream = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": drawing.name}):  # names within it are unique on a page
        drawing.figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]


def _heading(title: str) -> str:
    return f"<h2>{escape(title)}</h2>"


def _table(layout: TableLayout) -> str:
    spans = "".join(f'<th colspan="{width}">{escape(heading)}</th>' for heading, width in layout.headings)
    names = "".join(f"<th>{escape(column.name)}</th>" for column in layout.columns)
    lines = []
    for label, rows in layout.blocks.items():
        if label:
            filler = f'<td colspan="{len(layout.columns)}"></td>'
            lines.append(f'<tr class="block"><th>{escape(label)}</th>{filler}</tr>')
        for name, cells in rows:
            texts = "".join(f"<td>{CELL.write(*cell)}</td>" for cell in cells)
            lines.append(f"<tr><th>{escape(name)}</th>{texts}</tr>")
    return (
        f'{_heading(layout.title)}\n<div class="wide"><table><thead><tr><th></th>{spans}</tr>'
        f"<tr><th></th>{names}</tr></thead>\n<tbody>\n" + "\n".join(lines) + "\n</tbody></table></div>\n"
        f'<p class="caption">{escape(layout.caption)}</p>'
    )
