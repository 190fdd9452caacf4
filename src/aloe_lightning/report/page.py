"""The report as one HTML page that needs no other file: tables, figures, every OOD set, what is missing, provenance."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files

from aloe_lightning.report.grids import Grid
from aloe_lightning.report.measures import Measure
from aloe_lightning.report.write import number, signed


@dataclass(frozen=True)
class Figure:
    """A drawing as SVG text, with a title and a caption."""

    title: str
    svg: str
    caption: str


@dataclass(frozen=True)
class Details:
    """A table of plain texts that is folded away; the first column names the row."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Page:
    """What the page shows, top to bottom.

    Attributes:
        title: of the page.
        summary: a line below it.
        tables: with their captions.
        figures: drawings.
        details: further tables.
        notes: headed lists of lines, such as what is missing.
    """

    title: str
    summary: str
    tables: Sequence[tuple[Grid, str]]
    figures: Sequence[Figure] = ()
    details: Sequence[Details] = ()
    notes: dict[str, Sequence[str]] = field(default_factory=dict)


def html(page: Page) -> str:
    """The whole page."""
    style = files("aloe_lightning.report").joinpath("page.css").read_text()
    links = [(grid.name, grid.title.split(".")[0]) for grid, _ in page.tables]
    links += [(f"figure{k}", figure.title) for k, figure in enumerate(page.figures)]
    links += [("details", "Each OOD set")] if page.details else []
    links += [(f"note{k}", title) for k, title in enumerate(page.notes)]
    parts = [f"<h1>{escape(page.title)}</h1>", f"<p>{escape(page.summary)}</p>"]
    parts += ["<nav>" + " ".join(f'<a href="#{name}">{escape(text)}</a>' for name, text in links) + "</nav>"]
    parts += [_table(grid, caption) for grid, caption in page.tables]
    for k, figure in enumerate(page.figures):
        parts.append(f'<h2 id="figure{k}">{escape(figure.title)}</h2><figure>{_inline(figure.svg)}')
        parts.append(f"<figcaption>{escape(figure.caption)}</figcaption></figure>")
    if page.details:
        parts += ['<h2 id="details">Each OOD set</h2>', *map(_details, page.details)]
    for k, (title, lines) in enumerate(page.notes.items()):
        parts.append(f'<h2 id="note{k}">{escape(title)}</h2><ul>')
        parts += [f"<li>{escape(line)}</li>" for line in lines]
        parts.append("</ul>")
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(page.title)}</title>\n<style>\n{style}</style></head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _table(grid: Grid, caption: str) -> str:
    spans = "".join(f'<th colspan="{width}">{escape(heading)}</th>' for heading, width in grid.headings)
    names = "".join(f"<th>{escape(name)}</th>" for _, name in grid.columns)
    rows = []
    for block in grid.blocks:
        if block.label:
            rows.append(f'<tr class="block"><th>{escape(block.label)}</th><td colspan="{len(grid.columns)}"></td></tr>')
        for name, cells in block.rows:
            texts = "".join(_cell(m, m is not None and m is block.best(k)) for k, m in enumerate(cells))
            rows.append(f"<tr><th>{escape(name)}</th>{texts}</tr>")
    return (
        f'<h2 id="{grid.name}">{escape(grid.title)}</h2>\n<div class="wide"><table><thead><tr><th></th>{spans}</tr>'
        f"<tr><th></th>{names}</tr></thead>\n<tbody>\n" + "\n".join(rows) + "\n</tbody></table></div>\n"
        f'<p class="caption">{escape(caption)}</p>'
    )


def _cell(measure: Measure | None, best: bool) -> str:
    if measure is None:
        return "<td>–</td>"
    text = f'<span class="{"value best" if best else "value"}">{number(measure.row.value)}</span>'
    if measure.margin is not None:
        hint = "standard deviation over seeds"
        if measure.interval is not None:
            hint = f"95 % interval {number(measure.interval[0])} to {number(measure.interval[1])}"
        text += f' <small title="{hint}">±{number(measure.margin)}</small>'
    if measure.published is not None and measure.difference is not None:
        paper, difference = number(measure.published), signed(measure.difference)
        text += f'<small class="paper" title="the paper, and ours less the paper\'s">{paper}, {difference}</small>'
    return f"<td>{text}</td>"


def _details(table: Details) -> str:
    header = "".join(f"<th>{escape(name)}</th>" for name in table.header)
    rows = [
        "<tr>" + f"<th>{escape(row[0])}</th>" + "".join(f"<td>{escape(c)}</td>" for c in row[1:]) + "</tr>"
        for row in table.rows
    ]
    return (
        f'<details><summary>{escape(table.title)}</summary><div class="wide"><table><thead><tr>{header}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></details>"
    )


def _inline(svg: str) -> str:
    """The `<svg>` element alone, without the declarations of a file of its own."""
    return svg[svg.index("<svg") :]
