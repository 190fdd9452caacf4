"""The paper's Figure 2: how an attack moves the scores of in-distribution and OOD images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aloe_lightning.evaluation.scores import Condition, Scores
from aloe_lightning.report.captions import budget_text
from aloe_lightning.report.figures.files import new_figure
from aloe_lightning.report.frame import base_epsilon
from aloe_lightning.report.runs import ComparableRuns, Run

SHOWN_OBJECTIVES = ("oe", "aloe")
DETECTOR = "msp"
ID_COLOUR, OOD_COLOUR = "#1f6fb4", "#d1495b"
CONDITIONS: tuple[Condition, ...] = ("clean", "attacked")


@dataclass(frozen=True)
class ScorePanel:
    """A row of the figure: scores of one net, and the budget of the attack in 1/255 steps."""

    title: str
    scores: Scores
    epsilon: float


def score_panels(group: ComparableRuns) -> list[ScorePanel]:
    """Choose OE and ALOE, or the first objective there is, at the first budget and seed."""
    base = base_epsilon(group[0].cell.dataset, [run.cell.eval_epsilon for run in group])
    candidates = [run for run in group if DETECTOR in run.detectors() and run.cell.eval_epsilon == base]

    def is_further(run: Run) -> tuple[bool, int]:
        return run.cell.train_epsilon not in (None, base), run.cell.seed

    best: dict[str, Run] = {}
    for run in sorted(candidates, key=is_further):
        best.setdefault(run.cell.objective, run)
    shown = [name for name in SHOWN_OBJECTIVES if name in best] or sorted(best)[:1]
    return [ScorePanel(best[name].cell.objective_title, best[name].scores(), base) for name in shown]


def score_figure(panels: Sequence[ScorePanel]) -> Any:
    """Draw a row for each net, clean scores left and attacked scores right; ID against all OOD sets pooled.

    Returns:
        A matplotlib figure.
    """
    figure = new_figure(8.4, 0.9 + 2.3 * len(panels))
    axes = figure.subplots(len(panels), 2, squeeze=False, sharex=True)
    for row, panel in zip(axes, panels, strict=True):
        for axis, condition in zip(row, CONDITIONS, strict=True):
            id_scores = panel.scores[DETECTOR, "id", condition]
            ood_scores = panel.scores.pooled_ood(DETECTOR, condition)
            for values, colour, name in ((id_scores, ID_COLOUR, "in-distribution"), (ood_scores, OOD_COLOUR, "OOD")):
                weights = np.full(len(values), 1 / len(values))
                axis.hist(values, bins=40, range=(0, 1), weights=weights, color=colour, alpha=0.6, label=name)
            budget = f" ({budget_text(panel.epsilon)})" if condition == "attacked" else ""
            axis.set_title(f"{panel.title}, {condition}{budget}", fontsize=11)
            axis.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel("share of images")
    for axis in axes[-1]:
        axis.set_xlabel("score: maximum softmax probability")
    axes[0][0].legend(frameon=False, loc="upper center")
    return figure
