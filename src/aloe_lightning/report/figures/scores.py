"""Histograms of scores with the threshold of 95 % TPR (the paper's Figure 2), and ROC curves."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aloe_lightning.evaluation.scores import Condition, Scores
from aloe_lightning.metrics import threshold_at_tpr
from aloe_lightning.paper.methods import Method
from aloe_lightning.report.figures.files import ON_A_PHONE, new_figure
from aloe_lightning.report.figures.styles import ID_COLOUR, OOD_COLOUR, styles
from aloe_lightning.report.frame import base_epsilon
from aloe_lightning.report.runs import Run
from aloe_lightning.report.texts import budget_text

SHOWN_OBJECTIVES = ("oe", "aloe")
CONDITIONS: tuple[Condition, ...] = ("clean", "attacked")
BINS = 40
MOST_POINTS = 300

Array = NDArray[np.float64]


class Shown(NamedTuple):
    """A detector on the net of a run, with the detector's title."""

    run: Run
    detector: str
    title: str


def runs_at_base(group: Sequence[Run]) -> list[Run]:
    """Choose a run of each objective at the first budget: trained at it, if there is one, and of the first seed."""
    base = base_epsilon(group[0].cell.dataset, [run.cell.eval_epsilon for run in group])
    candidates = [run for run in group if run.cell.eval_epsilon == base]
    best: dict[str, Run] = {}
    for run in sorted(candidates, key=lambda run: (run.cell.train_epsilon not in (None, base), run.cell.seed)):
        best.setdefault(run.cell.objective, run)
    return [best[name] for name in dict.fromkeys(run.cell.objective for run in group) if name in best]


def shown_scores(group: Sequence[Run]) -> list[Shown]:
    """Choose the rows of the score figure: each detector on OE and ALOE, else on the first objective that has it."""
    runs = runs_at_base(group)
    rows = []
    for detector in dict.fromkeys(key for run in runs for key in run.detectors()):
        having = [run for run in runs if detector in run.detectors()]
        chosen = [run for run in having if run.cell.objective in SHOWN_OBJECTIVES] or having[:1]
        title = next(r.detector_title for r in having[0].records if r.detector == detector)
        rows += [Shown(run, detector, title) for run in chosen]
    return rows


def score_figure(rows: Sequence[Shown]) -> Any:
    """Draw a row for each detector and net, clean scores left and attacked ones right; ID against all OOD sets pooled.

    The rows of a detector share both axes; scores beyond its middle 99 % are counted in the outermost bins. A solid
    line marks the threshold of 95 % TPR on the images of the panel, a dotted one that of the clean images.

    Returns:
        A matplotlib figure.
    """
    figure = new_figure(ON_A_PHONE, 0.9 + 1.9 * len(rows))
    axes = figure.subplots(len(rows), 2, squeeze=False)
    scores = {row.run.folder: row.run.scores() for row in rows}
    edges = {
        detector: _edges(detector, [scores[row.run.folder] for row in rows if row.detector == detector])
        for detector in dict.fromkeys(row.detector for row in rows)
    }
    first: dict[str, Any] = {}
    for pair, row in zip(axes, rows, strict=True):
        for axis, condition in zip(pair, CONDITIONS, strict=True):
            shared = first.setdefault(row.detector, axis)
            if axis is not shared:
                axis.sharex(shared)
                axis.sharey(shared)
            _histogram(axis, scores[row.run.folder], row.detector, condition, edges[row.detector])
            budget = f", {budget_text(row.run.cell.eval_epsilon)}" if condition == "attacked" else ""
            axis.set_title(f"{row.run.cell.objective_title}, {row.title}\n{condition}{budget}", fontsize=10)
        pair[0].set_ylabel("share of images")
        pair[1].tick_params(labelleft=False)
    figure.supxlabel("score, higher = more in-distribution", fontsize=10)
    handles, labels = axes[0][1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _edges(detector: str, runs: Sequence[Scores]) -> Array:
    values = np.concatenate(
        [scores[key] for scores in runs for key in scores if key.detector == detector and key.condition in CONDITIONS]
    )
    low, high = np.percentile(values, [0.5, 99.5])
    return np.linspace(low, high if high > low else low + 1, BINS + 1)


def _histogram(axis: Any, scores: Scores, detector: str, condition: Condition, edges: Array) -> None:
    sides = {
        "in-distribution": (scores[detector, "id", condition], ID_COLOUR),
        "OOD": (scores.pooled_ood(detector, condition), OOD_COLOUR),
    }
    for name, (values, colour) in sides.items():
        counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
        axis.stairs(counts / len(values), edges, fill=True, color=colour, alpha=0.6, label=name)
    lines = {"threshold of 95 % TPR": (condition, "-"), "the same on clean images": ("clean", ":")}
    for name, (images, dash) in lines.items() if condition == "attacked" else [*lines.items()][:1]:
        threshold = np.clip(threshold_at_tpr(scores[detector, "id", images]), edges[0], edges[-1])
        axis.axvline(threshold, color="black", linewidth=1, linestyle=dash, label=name)
    axis.locator_params(axis="x", nbins=4)  # ODIN's labels are long
    axis.spines[["top", "right"]].set_visible(False)


def mean_roc(id_scores: Array, ood_scores: Mapping[str, Array]) -> tuple[Array, Array]:
    """Return false and true positive rate at every threshold, from (0, 0) to (1, 1); in-distribution is positive.

    Args:
        id_scores: (N,), higher = more in-distribution.
        ood_scores: (M,) for each OOD set by name; the false positive rate is the mean over the sets.

    Returns:
        Both rates (T,), ascending. The area under the curve is the mean AUROC of the sets, ties count one half.
    """
    thresholds = np.unique(np.concatenate([id_scores, *ood_scores.values()]))[::-1]

    def rate(scores: Array) -> Array:
        above = scores.size - np.searchsorted(np.sort(scores), thresholds, side="left")
        return np.concatenate([[0.0], above / scores.size])

    return np.mean([rate(scores) for scores in ood_scores.values()], axis=0), rate(id_scores)


def roc_figure(methods: Mapping[Method, Run]) -> Any:
    """Draw the ROC curve of each method, clean left and attacked on both sides right.

    Returns:
        A matplotlib figure.
    """
    figure = new_figure(ON_A_PHONE, 3.5 + 0.22 * (len(methods) // 2))
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    chosen = styles(methods)
    loaded = {run.folder: run.scores() for run in methods.values()}
    for axis, condition in zip(axes, CONDITIONS, strict=True):
        for method, run in sorted(methods.items(), key=lambda item: item[0]):
            scores, style = loaded[run.folder], chosen[method]
            by_set = {name: scores[method.detector, name, condition] for name in scores.ood_sets}
            rates = _thinned(*mean_roc(scores[method.detector, "id", condition], by_set))
            marks = {"markevery": 0.2, "markersize": 4.5, "linewidth": 1.5}
            axis.plot(*(100 * rate for rate in rates), **style._asdict(), **marks, label=method.title)
        axis.axhline(95, color="black", linewidth=0.8, linestyle=":")
        axis.plot([0, 100], [0, 100], color="black", linewidth=0.8, alpha=0.4)
        budget = next(iter(methods.values())).cell.eval_epsilon
        axis.set_title(condition if condition == "clean" else f"attacked, {budget_text(budget)}")
        axis.set_xlabel("OOD accepted, %")
        axis.set_aspect("equal")
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("in-distribution accepted, %")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _thinned(x: Array, y: Array) -> tuple[Array, Array]:
    """Keep at most `MOST_POINTS` + 1 points, at equal distances along the curve."""
    length = x + y
    kept = np.unique(np.searchsorted(length, np.linspace(0, length[-1], MOST_POINTS + 1)))
    return x[kept], y[kept]
