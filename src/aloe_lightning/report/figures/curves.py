"""AUROC and FPR95 against the budget of the attack: how fast the scores of each method degrade."""

from typing import Any

import pandas as pd

from aloe_lightning.report.figures.files import new_figure
from aloe_lightning.report.figures.styles import Style, styles
from aloe_lightning.report.table_layouts import Estimate

PANELS = {"auroc": "AUROC, % ↑", "fpr95": "FPR95, % ↓"}


def curves_figure(frame: pd.DataFrame) -> Any:
    """Draw a column for each data set with two budgets or more, AUROC above, FPR95 below.

    Clean numbers (epsilon 0) are those of Table 1.

    Args:
        frame: frame as returned by `table_frame`.

    Returns:
        A matplotlib figure, or None if no data set has two budgets.
    """
    points = frame[frame.metric.isin(list(PANELS)) & ((frame.epsilon > 0) | (frame.table == "table1"))]
    budgets = {dataset: sorted(set(rows.epsilon)) for dataset, rows in points.groupby("dataset", sort=False)}
    datasets = [dataset for dataset, epsilons in budgets.items() if len(epsilons) > 2]
    if not datasets:
        return None
    chosen = styles(points[points.dataset.isin(datasets)].method)
    figure = new_figure(1.9 + 3.6 * len(datasets), 6.2)
    axes = figure.subplots(2, len(datasets), squeeze=False, sharex="col", sharey="row")
    lines: dict[str, Any] = {}
    for column, dataset in enumerate(datasets):
        for row, (metric, title) in enumerate(PANELS.items()):
            axis = axes[row][column]
            panel = points[(points.dataset == dataset) & (points.metric == metric)]
            for method in sorted(set(panel.method)):
                lines[method.title] = _draw(axis, panel[panel.method == method], chosen[method])
            axis.set_ylim(-3, 103)
            axis.grid(alpha=0.25)
            axis.spines[["top", "right"]].set_visible(False)
            if row == 0:
                axis.set_title(dataset)
            if column == 0:
                axis.set_ylabel(title)
        axes[1][column].set_xlabel("ε, 1/255 steps (0: clean)")
        axes[1][column].set_xticks(budgets[dataset])
    figure.legend(lines.values(), lines.keys(), loc="outside right upper", frameon=False)
    return figure


def _draw(axis: Any, rows: pd.DataFrame, style: Style) -> Any:
    rows = rows.sort_values("epsilon")
    margins = [Estimate.of(row).margin or 0 for row in rows.itertuples()]
    (line,) = axis.plot(rows.epsilon, rows.value, **style._asdict(), markersize=4.5, linewidth=1.6)
    low, high = rows.value - margins, rows.value + margins
    axis.fill_between(rows.epsilon, low, high, color=style.color, alpha=0.12, linewidth=0)
    return line
