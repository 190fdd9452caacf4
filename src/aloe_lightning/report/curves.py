"""AUROC and FPR95 against the budget of the attack: how fast each method gives way."""

from collections.abc import Sequence
from typing import Any

from aloe_lightning.paper.methods import method_order
from aloe_lightning.report.grids import dataset_order
from aloe_lightning.report.measures import Measure

STYLES = {
    "MSP": ("#7f7f7f", "o", "-"),
    "ODIN": ("#7f7f7f", "s", "--"),
    "Mahalanobis": ("#7f7f7f", "^", ":"),
    "OE": ("#d1495b", "o", "-"),
    "OE+ODIN": ("#d1495b", "s", "--"),
    "ADV": ("#e2a03f", "o", "-"),
    "AOE": ("#4c9f70", "o", "-"),
    "ALOE": ("#1f6fb4", "o", "-"),
    "ALOE+ODIN": ("#1f6fb4", "s", "--"),
}
"""Colour by objective, line and marker by detector."""
PANELS = {"auroc": "AUROC, % ↑", "fpr95": "FPR95, % ↓"}


def curves_figure(found: Sequence[Measure]) -> Any:
    """A column for each data set with two budgets or more, AUROC above, FPR95 below; None if there is none.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points = [m for m in found if m.row.metric in PANELS]
    by_set = {m.row.dataset: {n.row.epsilon for n in points if n.row.dataset == m.row.dataset} for m in points}
    datasets = sorted((name for name, epsilons in by_set.items() if len(epsilons) > 2), key=dataset_order)
    if not datasets:
        return None
    figure = Figure(figsize=(1.9 + 3.6 * len(datasets), 6.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(datasets), squeeze=False, sharex="col", sharey="row")
    shown: dict[str, Any] = {}
    for column, dataset in enumerate(datasets):
        for row, (metric, title) in enumerate(PANELS.items()):
            axis = axes[row][column]
            mine = [m for m in points if m.row.dataset == dataset and m.row.metric == metric]
            for method in sorted({m.row.method for m in mine}, key=method_order):
                line = sorted((m for m in mine if m.row.method == method), key=lambda m: m.row.epsilon)
                colour, marker, style = STYLES.get(method.split(" (")[0], ("#9467bd", "D", "-."))
                (shown[method],) = axis.plot(
                    [m.row.epsilon for m in line],
                    [m.row.value for m in line],
                    color=colour, marker=marker, linestyle=style, markersize=4.5, linewidth=1.6,
                )  # fmt: skip
                low, high = zip(
                    *((m.row.value - (m.margin or 0), m.row.value + (m.margin or 0)) for m in line), strict=True
                )
                axis.fill_between([m.row.epsilon for m in line], low, high, color=colour, alpha=0.12, linewidth=0)
            axis.set_ylim(-3, 103)
            axis.grid(alpha=0.25)
            axis.spines[["top", "right"]].set_visible(False)
            if row == 0:
                axis.set_title(dataset)
            if column == 0:
                axis.set_ylabel(title)
        axes[1][column].set_xlabel("ε, 1/255 steps (0: clean)")
        axes[1][column].set_xticks(sorted(by_set[dataset]))
    figure.legend(shown.values(), shown.keys(), loc="outside right upper", frameon=False)
    return figure
