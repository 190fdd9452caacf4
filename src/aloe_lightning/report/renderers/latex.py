"""Tables as LaTeX; each number with its margin, the paper's number, and the difference."""

from collections.abc import Iterable

from aloe_lightning.report.renderers.page import CellFormat
from aloe_lightning.report.table_layouts import TableLayout

HEAD = r"""% Needs \usepackage{booktabs}. Each cell: ours, its margin, then (published, difference).
% To leave the published numbers out: \newcommand{\published}[2]{} before \input of this file.
\providecommand{\margin}[1]{{\tiny$\pm$#1}}
\providecommand{\published}[2]{{\tiny\,(#1, $#2$)}}
"""
ESCAPES = {character: "\\" + character for character in "%&_#"} | {
    "−": "$-$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "±": r"$\pm$", "ε": r"$\epsilon$", "×": r"$\times$",
}  # fmt: skip

CELL = CellFormat("--", best=r"\textbf{{{}}}", margin=r"\margin{{{}}}", published=r"\published{{{}}}{{{}}}")


def latex_page(tables: Iterable[TableLayout]) -> str:
    """Write all tables, each with its caption, after the commands that they need."""
    return HEAD + "\n".join(map(latex_table, tables))


def latex_table(layout: TableLayout) -> str:
    """Write a `table` with the rules of booktabs; the best of a column is bold."""
    spans, rules, place = [], [], 2
    for heading, width in layout.headings:
        spans.append(rf"\multicolumn{{{width}}}{{c}}{{{_latex(heading)}}}")
        rules.append(rf"\cmidrule(lr){{{place}-{place + width - 1}}}")
        place += width
    lines = [
        r"\begin{table}",
        rf"\caption{{{_latex(layout.title)}. {_latex(layout.caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * len(layout.columns)}}}",
        r"\toprule",
        " & ".join(["", *spans]) + r" \\",
        "".join(rules),
        " & ".join(["", *(_latex(column.name) for column in layout.columns)]) + r" \\",
    ]
    for label, rows in layout.blocks.items():
        lines.append(r"\midrule")
        if label:
            lines.append(rf"\multicolumn{{{len(layout.columns) + 1}}}{{l}}{{\textbf{{{_latex(label)}}}}} \\")
        for name, cells in rows:
            texts = (CELL.write(*cell).replace("−", "-") for cell in cells)
            lines.append(" & ".join([_latex(name), *texts]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _latex(text: str) -> str:
    return "".join(ESCAPES.get(character, character) for character in text)
