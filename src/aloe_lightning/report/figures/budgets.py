"""Curves of AUROC and FPR95 against the budget of the attack."""

from typing import Any

import pandas as pd

from aloe_lightning.report.figures.files import new_figure
from aloe_lightning.report.figures.styles import styles

PANELS = {"auroc": "AUROC, % ↑", "fpr95": "FPR95, % ↓"}


def curves_figure(frame: pd.DataFrame) -> Any:
    """Draw a column for each data set of `table_frame` with two budgets or more, AUROC above, FPR95 below.

    Clean numbers (epsilon 0) are those of Table 1; bands are the margins.

    Returns:
        A matplotlib figure, or None if no data set has two budgets.
    """
    points = frame[frame.metric.isin(list(PANELS)) & ((frame.epsilon > 0) | (frame.table == "table1"))]
    points = points.groupby("dataset", sort=False).filter(lambda rows: rows.epsilon.nunique() > 2)
    if points.empty:
        return None
    chosen, datasets = styles(points.method), points.dataset.unique()
    figure = new_figure(0.6 + 3.2 * max(2, len(datasets)), 7)
    axes = figure.subplots(2, len(datasets), squeeze=False, sharex="col", sharey="row")
    lines: dict[str, Any] = {}
    for column, dataset in zip(axes.T, datasets, strict=True):
        of_dataset = points[points.dataset == dataset]
        for axis, metric in zip(column, PANELS, strict=True):
            for method, rows in of_dataset[of_dataset.metric == metric].groupby("method"):
                rows = rows.sort_values("epsilon")
                style, margins = chosen[method], rows.margin.fillna(0)
                (lines[method.title],) = axis.plot(
                    rows.epsilon, rows.value, **style._asdict(), markersize=4.5, linewidth=1.6
                )
                low, high = rows.value - margins, rows.value + margins
                axis.fill_between(rows.epsilon, low, high, color=style.color, alpha=0.12, linewidth=0)
            axis.set_ylim(-3, 103)
            axis.grid(alpha=0.25)
            axis.spines[["top", "right"]].set_visible(False)
        column[0].set_title(dataset)
        column[1].set_xlabel("ε, 1/255 steps (0: clean)")
        column[1].set_xticks(sorted(set(of_dataset.epsilon)))
    for axis, title in zip(axes[:, 0], PANELS.values(), strict=True):
        axis.set_ylabel(title)
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=4, frameon=False)
    return figure
