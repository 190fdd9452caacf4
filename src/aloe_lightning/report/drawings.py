"""The figures of the report with their titles and captions, in the order of the page."""

from collections.abc import Mapping, Sequence

import pandas as pd

from aloe_lightning.paper.datasets import in_paper
from aloe_lightning.paper.methods import Method
from aloe_lightning.report.figures.budgets import curves_figure
from aloe_lightning.report.figures.changes import change_figure, rank_figure
from aloe_lightning.report.figures.examples import examples_figure, magnification, with_examples
from aloe_lightning.report.figures.files import Drawing
from aloe_lightning.report.figures.scores import Shown, roc_figure, runs_at_base, score_figure, shown_scores
from aloe_lightning.report.runs import Collection, Run
from aloe_lightning.report.texts import budget_text, objectives_attacked_as_trained
from aloe_lightning.report.verdict import Verdict, verdict_caption

SCORES = (
    "Share of images by their score, in-distribution against all OOD test sets together; left clean, right attacked "
    "on both sides{}. The solid line is the threshold of 95 % TPR on the images of the panel, FPR95 is the share of "
    "OOD images above it; the dotted line is the threshold of the clean images."
)
ROC = (
    "In-distribution images accepted against OOD images accepted, mean over the OOD test sets, for one seed{}; the "
    "dotted line is 95 % TPR, below the diagonal is worse than chance."
)
EXAMPLES = (
    "Images whose score the attack moved furthest across the threshold of 95 % TPR on clean in-distribution images, "
    "for one seed; the evaluation scored these very images ({} pixels, attacked at {}). Below each: its score, and the "
    "decision, bold if it is wrong. Change: attacked less clean image, times {}, around grey."
)


def chart_of(verdicts: Sequence[Verdict], frame: pd.DataFrame) -> Drawing | None:
    """Return the chart of the verdicts on the data sets; None if there is no data set with detectors."""
    if not verdicts:
        return None
    return Drawing("Clean to attacked", verdict_caption(verdicts, frame), "verdict", change_figure(verdicts))


def drawings_of(collection: Collection, frame: pd.DataFrame, verdicts: Sequence[Verdict]) -> list[Drawing]:
    """Return the figures that come after the tables."""
    drawings = []
    methods = {dataset: rows for dataset, rows in frame.groupby("dataset")}
    for dataset, group in collection.groups.items():
        if rows := shown_scores(group):
            cell = rows[0].run.cell
            at_budget = f" at {budget_text(cell.eval_epsilon)}" if cell.eval_epsilon else ""
            title = f"Figure 2, {dataset}" if in_paper(dataset) else f"Scores, {dataset}"
            drawings.append(Drawing(title, SCORES.format(at_budget), f"scores_{cell.dataset}", score_figure(rows)))
            curves = roc_figure(_runs_of_methods(group, methods[dataset].method.unique()))
            caption = ROC.format(f", attacked on both sides{at_budget}" if at_budget else "")
            drawings.append(Drawing(f"ROC curves, {dataset}", caption, f"roc_{cell.dataset}", curves))
            drawings += _examples_of(dataset, rows)
    if (figure := rank_figure(verdicts)) is not None:
        caption = "Ranks by mean AUROC, clean and with both sides attacked; 1 is at the top."
        drawings.append(Drawing("Ranks", caption, "ranks", figure))
    if (figure := curves_figure(frame)) is not None:
        caption = "Means over the OOD test sets against the budget of the attack; bands are the margins of the tables."
        if names := objectives_attacked_as_trained(frame):
            clean = "their clean numbers (ε = 0) are of the nets of the first budget"
            caption += f" {names}: trained at the budget that attacks them; {clean}."
        drawings.append(Drawing("Against the budget", caption, "curves", figure))
    return drawings


def _examples_of(dataset: str, rows: Sequence[Shown]) -> list[Drawing]:
    """Return the pictures of the images that the attack moved furthest, if the runs kept some."""
    if not (shown := with_examples(rows)):
        return []
    everything = [examples for _, sides in shown for examples in sides.values()]
    factor, shapes = magnification(everything), {examples.clean.shape[2:] for examples in everything}
    sizes = " or ".join(f"{height} × {width}" for height, width in sorted(shapes))
    cell = rows[0].run.cell
    caption = EXAMPLES.format(sizes, budget_text(cell.eval_epsilon), factor)
    name = f"examples_{cell.dataset}"
    return [Drawing(f"Attacked images, {dataset}", caption, name, examples_figure(shown, factor))]


def _runs_of_methods(group: Sequence[Run], methods: Sequence[Method]) -> Mapping[Method, Run]:
    """Return the run at the first budget of each method with a detector, of the nets that were trained at it."""
    runs = {run.cell.objective: run for run in runs_at_base(group)}
    chosen: dict[Method, Run] = {}
    for method in sorted(methods):
        run = runs.get(method.objective)
        if run is not None and method.trained_at in (None, run.cell.train_epsilon) and method.detector:
            chosen[method] = run
    return {method: run for method, run in chosen.items() if method.detector in run.detectors()}
