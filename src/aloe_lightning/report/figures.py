"""Figures: score histograms (the paper's Figure 2), and curves against the budget of the attack."""

from collections.abc import Iterable, Sequence
from itertools import chain, product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from aloe_lightning.evaluation.scores import Condition
from aloe_lightning.paper.methods import Method
from aloe_lightning.report.frame import base_epsilon
from aloe_lightning.report.runs import Run
from aloe_lightning.report.texts import budget_text

SHOWN_OBJECTIVES = ("oe", "aloe")
HISTOGRAM_DETECTOR = "msp"
ID_COLOUR, OOD_COLOUR = "#1f6fb4", "#d1495b"
CONDITIONS: tuple[Condition, ...] = ("clean", "attacked")

PANELS = {"auroc": "AUROC, % ↑", "fpr95": "FPR95, % ↓"}
COLOURS = {"original": "#777777", "oe": "#c44a00", "adv": "#e8b020", "aoe": "#56b4e9", "aloe": "#004f9e"}
FURTHER_COLOURS = ("#cc79a7", "#0b6e4f", "#1b1b1b")
LINES = {"msp": ("o", "-"), "odin": ("s", "--"), "mahalanobis": ("^", ":")}
FURTHER_LINES = tuple((marker, dash) for dash, marker in product(("-.", "--", ":", "-"), "Dv<>PX*hp"))


def shown_runs(group: Sequence[Run]) -> list[Run]:
    """Choose the runs of the score figure: OE and ALOE, or the first objective, at the first budget and seed."""
    base = base_epsilon(group[0].cell.dataset, [run.cell.eval_epsilon for run in group])
    candidates = [run for run in group if HISTOGRAM_DETECTOR in run.detectors() and run.cell.eval_epsilon == base]
    best: dict[str, Run] = {}
    for run in sorted(candidates, key=lambda run: (run.cell.train_epsilon not in (None, base), run.cell.seed)):
        best.setdefault(run.cell.objective, run)
    return [best[name] for name in ([name for name in SHOWN_OBJECTIVES if name in best] or sorted(best)[:1])]


def score_figure(runs: Sequence[Run]) -> Any:
    """Draw a row for each run, clean scores left and attacked scores right; ID against all OOD sets pooled.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 0.9 + 2.3 * len(runs)), layout="constrained")
    axes = figure.subplots(len(runs), 2, squeeze=False, sharex=True)
    for row, run in zip(axes, runs, strict=True):
        scores = run.scores()
        for axis, condition in zip(row, CONDITIONS, strict=True):
            id_scores = scores[HISTOGRAM_DETECTOR, "id", condition]
            ood_scores = scores.pooled_ood(HISTOGRAM_DETECTOR, condition)
            for values, colour, name in ((id_scores, ID_COLOUR, "in-distribution"), (ood_scores, OOD_COLOUR, "OOD")):
                weights = np.full(len(values), 1 / len(values))
                axis.hist(values, bins=40, range=(0, 1), weights=weights, color=colour, alpha=0.6, label=name)
            budget = f" ({budget_text(run.cell.eval_epsilon)})" if condition == "attacked" else ""
            axis.set_title(f"{run.cell.objective_title}, {condition}{budget}", fontsize=11)
            axis.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel("share of images")
    for axis in axes[-1]:
        axis.set_xlabel("score: maximum softmax probability")
    axes[0][0].legend(frameon=False, loc="upper center")
    return figure


class Style(NamedTuple):
    """Arguments of a line of matplotlib."""

    color: str
    marker: str
    linestyle: str


def styles(methods: Iterable[Method]) -> dict[Method, Style]:
    """Give each method of a figure a unique style: colour by objective, marker and dash by detector.

    Detectors of the paper keep their lines; other detectors, and nets that name their training budget, get further
    ones in turn, the same line for the same detector and budget on every objective.
    """
    ordered = sorted(set(methods))
    others = sorted({method.objective for method in ordered} - COLOURS.keys())
    colours = COLOURS | {name: FURTHER_COLOURS[k % len(FURTHER_COLOURS)] for k, name in enumerate(others)}
    lines: dict[tuple[str, float | None], tuple[str, str]] = {(key, None): line for key, line in LINES.items()}
    chosen: dict[Method, Style] = {}
    for method in ordered:
        key, colour = (method.detector, method.trained_at), colours[method.objective]
        if key not in lines:
            lines[key] = next((line for line in FURTHER_LINES if line not in lines.values()), FURTHER_LINES[0])
        candidates = chain([lines[key]], FURTHER_LINES, LINES.values())
        free = (style for line in candidates if (style := Style(colour, *line)) not in chosen.values())
        chosen[method] = next(free, Style(colour, *lines[key]))
    return chosen


def curves_figure(frame: pd.DataFrame) -> Any:
    """Draw a column for each data set of `table_frame` with two budgets or more, AUROC above, FPR95 below.

    Clean numbers (epsilon 0) are those of Table 1; bands are the margins.

    Returns:
        A matplotlib figure, or None if no data set has two budgets.
    """
    from matplotlib.figure import Figure

    points = frame[frame.metric.isin(list(PANELS)) & ((frame.epsilon > 0) | (frame.table == "table1"))]
    points = points.groupby("dataset", sort=False).filter(lambda rows: rows.epsilon.nunique() > 2)
    if points.empty:
        return None
    chosen, datasets = styles(points.method), points.dataset.unique()
    figure = Figure(figsize=(1.9 + 3.6 * len(datasets), 6.2), layout="constrained")
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
    figure.legend(lines.values(), lines.keys(), loc="outside right upper", frameon=False)
    return figure
