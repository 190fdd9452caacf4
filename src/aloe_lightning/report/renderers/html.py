"""The report as one HTML page that needs no other file: verdict, tables, figures, every OOD set, notes."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files

import pandas as pd

from aloe_lightning.report.figures.files import Drawing, dark_mode_css
from aloe_lightning.report.renderers.page import CellFormat, Page
from aloe_lightning.report.table_layouts import TableLayout
from aloe_lightning.report.verdict import Verdict

CELL = CellFormat(
    value='<span class="value">{}</span>',
    best='<span class="value best">{}</span>',
    margin=' <small title="{hint}">±{}</small>',
    published='<small class="paper" title="the paper, and ours less the paper\'s">{}, {}</small>',
)


def html_page(page: Page) -> str:
    """Write the whole page."""
    sections = [("Verdict", _verdict(page.verdicts, page.chart))] if page.verdicts else []
    sections += [(layout.label, _table(layout)) for layout in page.tables]
    sections += [(drawing.title, _heading(drawing.title) + _figure(drawing)) for drawing in page.drawings]
    if page.details:
        tables = [
            f"<details><summary>{escape(title)}</summary>{_plain_table(title, table)}</details>"
            for title, table in page.details.items()
        ]
        sections.append(("Each OOD set", "\n".join([_heading("Each OOD set"), *tables])))
    sections += [(title, f"{_heading(title)}{_list(lines)}") for title, lines in page.notes.items()]
    links = [f'<a href="#section{k}">{escape(title)}</a>' for k, (title, _) in enumerate(sections)]
    texts = [f'<section id="section{k}">{text}</section>' for k, (_, text) in enumerate(sections)]
    opening = 1 if page.verdicts else 0
    parts = [f"<h1>{escape(page.title)}</h1>", *texts[:opening]]
    parts += [f"<p>{escape(page.summary)}</p>", f"<nav>{' '.join(links)}</nav>", *texts[opening:]]
    return document(page.title, "\n".join([*parts, f"<script>\n{_text('page.js')}</script>"]))


def document(title: str, body: str) -> str:
    """Return an HTML document with the style of all reports, dark mode included, that needs no other file."""
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_text('page.css')}{dark_mode_css()}</style></head>\n<body>\n"
        f"{body}\n</body>\n</html>\n"
    )


def _text(name: str) -> str:
    return files("aloe_lightning.report.renderers").joinpath(name).read_text()


def _heading(title: str) -> str:
    return f"<h2>{escape(title)}</h2>"


def _list(lines: Sequence[str]) -> str:
    return "\n".join(["<ul>", *(f"<li>{escape(line)}</li>" for line in lines), "</ul>"])


def _verdict(verdicts: Sequence[Verdict], chart: Drawing | None) -> str:
    parts = ['<h2 class="hidden">Verdict</h2>']
    for verdict in verdicts:
        parts += [f'<p class="verdict">{escape(verdict.headline)}</p>', _list(verdict.lines) if verdict.lines else ""]
    return "\n".join([*parts, "" if chart is None else _figure(chart)])


def _figure(drawing: Drawing) -> str:
    return f"<figure>{drawing.scrolling()}\n<figcaption>{escape(drawing.caption)}</figcaption></figure>"


def _table(layout: TableLayout) -> str:
    spans = "".join(
        f'<th colspan="{width}" scope="colgroup">{escape(heading)}</th>' for heading, width in layout.headings
    )
    names = [column.name or column.heading for column in layout.columns]
    bodies = []
    for label, rows in layout.blocks.items():
        lines = []
        if label:
            filler = f'<td colspan="{len(layout.columns)}"></td>'
            lines.append(f'<tr class="block"><th scope="rowgroup">{escape(label)}</th>{filler}</tr>')
        for name, cells in rows:
            texts = "".join(f"<td>{CELL.write(*cell)}</td>" for cell in cells)
            lines.append(f'<tr><th scope="row">{escape(name)}</th>{texts}</tr>')
        bodies.append("<tbody>\n" + "\n".join(lines) + "\n</tbody>")
    table = _sortable(layout.title, f"<tr><th></th>{spans}</tr>", names, bodies)
    return f'{_heading(layout.title)}\n{table}\n<p class="caption">{escape(layout.caption)}</p>'


def _plain_table(title: str, table: pd.DataFrame) -> str:
    lines = []
    for name, row in table.iterrows():
        cells = "".join(f"<td>{escape(str(text))}</td>" for text in row)
        lines.append(f'<tr><th scope="row">{escape(str(name))}</th>{cells}</tr>')
    return _sortable(title, "", list(table.columns), ["<tbody>\n" + "\n".join(lines) + "\n</tbody>"])


def _sortable(title: str, spans: str, names: Sequence[str], bodies: Sequence[str]) -> str:
    """Write a table that `page.js` sorts by the column of a button, each body apart; it scrolls within the page."""
    heads = [f'<th scope="col"><button type="button">{escape(name)}</button></th>' for name in ("method", *names)]
    label = escape(title, quote=True)
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{label}"><table class="sortable">'
        f"<thead>{spans}<tr>{''.join(heads)}</tr></thead>\n" + "\n".join(bodies) + "\n</table></div>"
    )
