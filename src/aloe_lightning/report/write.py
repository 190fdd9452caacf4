"""Tables as Markdown and LaTeX; each number with its margin, the paper's beside it, and the difference."""

from collections.abc import Sequence

from aloe_lightning.report.grids import Grid
from aloe_lightning.report.measures import Measure

LATEX_HEAD = r"""% Needs \usepackage{booktabs}. Each cell: ours, its margin, then (published, difference).
% To leave the published numbers out: \newcommand{\published}[2]{} before \input of this file.
\providecommand{\margin}[1]{{\tiny$\pm$#1}}
\providecommand{\published}[2]{{\tiny\,(#1, $#2$)}}
"""
ESCAPES = {
    "%": r"\%",
    "&": r"\&",
    "_": r"\_",
    "#": r"\#",
    "−": "$-$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "±": r"$\pm$",
    "ε": r"$\epsilon$",
    "×": r"$\times$",
}


def number(value: float) -> str:
    """In percent, two decimals."""
    return f"{value:.2f}"


def signed(value: float) -> str:
    """With its sign, a true minus."""
    return f"{value:+.2f}".replace("-", "−")


def markdown_table(grid: Grid, caption: str) -> str:
    """A table for a page that shows Markdown; the best of a column in bold."""
    header = [""] + [f"{heading}<br>{name}" for heading, name in grid.columns]
    lines = [f"**{grid.title}**", "", _line(header), "|:--" + "|--:" * len(grid.columns) + "|"]
    for block in grid.blocks:
        if block.label:
            lines.append(_line([f"**{block.label}**", *[""] * len(grid.columns)]))
        for name, cells in block.rows:
            lines.append(
                _line([name, *(_markdown_cell(m, m is not None and m is block.best(k)) for k, m in enumerate(cells))])
            )
    return "\n".join([*lines, "", caption, ""])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _markdown_cell(measure: Measure | None, best: bool) -> str:
    if measure is None:
        return "–"
    text = number(measure.row.value)
    text = f"**{text}**" if best else text
    if measure.margin is not None:
        text += f" ± {number(measure.margin)}"
    if measure.published is not None and measure.difference is not None:
        text += f"<br>({number(measure.published)}, {signed(measure.difference)})"
    return text


def latex_table(grid: Grid, caption: str) -> str:
    """A `table` of LaTeX with booktabs' rules."""
    spans, rules, place = [], [], 2
    for heading, width in grid.headings:
        spans.append(rf"\multicolumn{{{width}}}{{c}}{{{_latex(heading)}}}")
        rules.append(rf"\cmidrule(lr){{{place}-{place + width - 1}}}")
        place += width
    lines = [
        r"\begin{table}",
        rf"\caption{{{_latex(grid.title)}. {_latex(caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * len(grid.columns)}}}",
        r"\toprule",
        " & ".join(["", *spans]) + r" \\",
        "".join(rules),
        " & ".join(["", *(_latex(name) for _, name in grid.columns)]) + r" \\",
    ]
    for block in grid.blocks:
        lines.append(r"\midrule")
        if block.label:
            lines.append(rf"\multicolumn{{{len(grid.columns) + 1}}}{{l}}{{\textbf{{{_latex(block.label)}}}}} \\")
        for name, cells in block.rows:
            texts = (_latex_cell(m, m is not None and m is block.best(k)) for k, m in enumerate(cells))
            lines.append(" & ".join([_latex(name), *texts]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _latex(text: str) -> str:
    return "".join(ESCAPES.get(letter, letter) for letter in text)


def _latex_cell(measure: Measure | None, best: bool) -> str:
    if measure is None:
        return "--"
    text = number(measure.row.value)
    text = rf"\textbf{{{text}}}" if best else text
    if measure.margin is not None:
        text += rf"\margin{{{number(measure.margin)}}}"
    if measure.published is not None and measure.difference is not None:
        text += rf"\published{{{number(measure.published)}}}{{{measure.difference:+.2f}}}"
    return text
