"""Changes from clean to attacked: the AUROC of each method as an arrow, and the ranks of the methods."""

from collections.abc import Sequence
from typing import Any

from aloe_lightning.report.figures.files import ON_A_PHONE, new_figure
from aloe_lightning.report.figures.styles import styles
from aloe_lightning.report.texts import budget_text
from aloe_lightning.report.verdict import CHANCE, Change, Verdict


def change_figure(verdicts: Sequence[Verdict]) -> Any:
    """Draw a panel for each data set: an arrow for each method from its clean to its attacked AUROC.

    Bars at both ends are the intervals; without an attack there are no arrows.

    Returns:
        A matplotlib figure.
    """
    counts = [len(verdict.changes) for verdict in verdicts]
    figure = new_figure(ON_A_PHONE, 1.2 + sum(0.27 * count + 0.75 for count in counts))
    axes = figure.subplots(len(verdicts), 1, squeeze=False, sharex=True, height_ratios=[n + 1 for n in counts])[:, 0]
    chosen = styles(change.method for verdict in verdicts for change in verdict.changes)
    for axis, verdict in zip(axes, verdicts, strict=True):
        for place, change in enumerate(verdict.changes):
            _arrow(axis, place, change, chosen[change.method].color)
        axis.axvline(CHANCE, color="black", linewidth=0.8, linestyle=":")
        axis.set_yticks(range(len(verdict.changes)), [change.method.title for change in verdict.changes])
        axis.set_ylim(len(verdict.changes) - 0.4, -0.6)
        axis.set_xlim(-2, 102)
        axis.set_title(f"{verdict.dataset}, {budget_text(verdict.epsilon)}", loc="left", fontsize=11)
        axis.grid(axis="x", alpha=0.2)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel("AUROC, %: from clean (ring) to attacked (disc);\nthe dotted line is chance")
    return figure


def _arrow(axis: Any, place: int, change: Change, colour: str) -> None:
    for estimate, filled in ((change.clean, False), (change.attacked, True)):
        if estimate is not None:
            axis.plot([estimate.low, estimate.high], [place, place], color=colour, linewidth=4, alpha=0.35)
            axis.plot(
                [estimate.value],
                [place],
                marker="o",
                markersize=6.5,
                color=colour,
                markerfacecolor=colour if filled else "none",
                linestyle="none",
            )
    if change.attacked is not None:
        ends = {"xytext": (change.clean.value, place), "xy": (change.attacked.value, place)}
        arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.4, "shrinkA": 4, "shrinkB": 3}
        axis.annotate("", **ends, arrowprops=arrow)


def rank_figure(verdicts: Sequence[Verdict]) -> Any:
    """Draw a panel for each data set with the rank of each attacked method by AUROC, clean left and attacked right.

    Equal numbers share the better rank.

    Returns:
        A matplotlib figure, or None if no data set has two attacked methods.
    """
    verdicts = [verdict for verdict in verdicts if len(verdict.ranks()) > 1]
    if not verdicts:
        return None
    counts = [len(verdict.ranks()) for verdict in verdicts]
    figure = new_figure(ON_A_PHONE, 0.5 + sum(0.6 + 0.27 * count for count in counts))
    axes = figure.subplots(len(verdicts), 1, squeeze=False, sharex=True, height_ratios=[n + 1 for n in counts])[:, 0]
    chosen = styles(change.method for verdict in verdicts for change in verdict.changes)
    for axis, verdict in zip(axes, verdicts, strict=True):
        for method, ranks in verdict.ranks().items():
            axis.plot([0, 1], ranks, **chosen[method]._asdict(), markersize=6, linewidth=1.8)
        for x, side in ((0, "right"), (1, "left")):
            by_rank: dict[int, list[str]] = {}
            for method, ranks in verdict.ranks().items():
                by_rank.setdefault(ranks[x], []).append(method.title)
            for rank, titles in by_rank.items():
                shift = -0.06 if x == 0 else 0.06
                axis.text(x + shift, rank, ", ".join(titles), ha=side, va="center", fontsize=10)
        axis.set_ylim(len(verdict.ranks()) + 0.6, 0.4)
        axis.set_xlim(-0.75, 1.75)
        axis.set_xticks([0, 1], ["clean", f"attacked, {budget_text(verdict.epsilon)}"])
        axis.set_yticks([])
        axis.set_title(verdict.dataset, loc="left", fontsize=11)
        axis.tick_params(labelbottom=True, length=0)
        axis.spines[["top", "right", "left", "bottom"]].set_visible(False)
    return figure
