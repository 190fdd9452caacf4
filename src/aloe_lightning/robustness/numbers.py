"""Numbers of an evaluation with 95 % bootstrap intervals, under two readings of the detector's threshold."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aloe_lightning.evaluation.records import SIDES, Side
from aloe_lightning.evaluation.scores import Scores
from aloe_lightning.metrics import auroc, ood_metrics, threshold_at_tpr, tied_pairs
from aloe_lightning.report.leaderboard import MEAN

Array = NDArray[np.float64]
RESAMPLES = 500
COLUMNS = ["detector", "ood", "side", "metric", "value", "low", "high"]
HEADINGS = {
    "auroc": "AUROC",
    "fpr95": "FPR95",
    "tpr_fixed": "TPR, fixed threshold",
    "fpr_fixed": "FPR, fixed threshold",
    "gauroc": "GAUROC",
}
"""The metrics of the table; the last one of attacked sides only, where there is a guaranteed bound."""
SIDE_HEADINGS: dict[Side, str] = {
    "none": "clean",
    "id": "ID attacked",
    "ood": "OOD attacked",
    "both": "both attacked",
}


def numbers_of(scores: Scores, sides: Sequence[Side], seed: int = 0) -> pd.DataFrame:
    """Return every number once, as fractions.

    Args:
        scores: clean scores, and attacked ones of the images that some side attacks.
        sides: attacked sides, of `none`, `id`, `ood`, `both`.
        seed: random seed of the bootstrap.

    Returns:
        The columns of `COLUMNS`. `auroc`, `fpr95`, `detection_error`, `aupr_in`, `aupr_out`, `tied_pairs`: the
        threshold is chosen on the scores of that side, as in the paper. `tpr_fixed`, `fpr_fixed`: shares of ID and OOD
        images accepted at the fixed threshold, whose true positive rate is nearest to 95 % on clean ID images.
        `gauroc`: a value that no attack brings the AUROC below, for detectors with guaranteed bounds. Several OOD sets
        also have their mean. `low` and `high` are NaN where no interval is computed.
    """
    from aloe_lightning.report.intervals import intervals

    rows: list[tuple[object, ...]] = []
    for detector in scores.detectors:
        clean = scores[detector, "id", "clean"]
        threshold = threshold_at_tpr(clean)
        for side in sides:
            id_condition, ood_condition = SIDES[side]
            positive = scores[detector, "id", id_condition]
            by_set = {name: scores[detector, name, ood_condition] for name in scores.ood_sets}
            groups = {name: {name: values} for name, values in by_set.items()}
            if len(by_set) > 1:
                groups[MEAN] = by_set
            for name, group in groups.items():
                values = [_values(positive, negative, threshold) for negative in group.values()]
                for ood, row in zip(group, values, strict=True):
                    row.update(_guaranteed(scores, detector, ood, side))
                bounds = intervals(positive, group, resamples=RESAMPLES, seed=seed)
                bounds |= fixed_intervals(clean, positive, group, seed=seed)
                for metric in values[0]:
                    low, high = bounds.get(metric, (np.nan, np.nan))
                    value = float(np.mean([v[metric] for v in values]))
                    rows.append((detector, name, side, metric, value, low, high))
    return pd.DataFrame(rows, columns=COLUMNS)


def _values(positive: Array, negative: Array, threshold: float) -> dict[str, float]:
    fixed = {"tpr_fixed": float((positive > threshold).mean()), "fpr_fixed": float((negative > threshold).mean())}
    return {**ood_metrics(positive, negative), "tied_pairs": tied_pairs(positive, negative), **fixed}


def _guaranteed(scores: Scores, detector: str, ood: str, side: Side) -> dict[str, float]:
    """Return the AUROC of the guaranteed scores in place of the attacked ones, if there are any."""
    conditions = ["guaranteed" if condition == "attacked" else condition for condition in SIDES[side]]
    keys = (detector, "id", conditions[0]), (detector, ood, conditions[1])
    if "guaranteed" not in conditions or any(key not in scores for key in keys):
        return {}
    return {"gauroc": auroc(*(scores[key] for key in keys))}


def headings_of(numbers: pd.DataFrame, side: Side) -> dict[str, str]:
    """Return the metrics of the table that a side has, with their headings."""
    present = set(numbers[numbers.side == side].metric)
    return {metric: heading for metric, heading in HEADINGS.items() if metric in present}


def fixed_intervals(
    clean: Array, positive: Array, negatives: Mapping[str, Array], *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return the intervals of TPR and mean FPR at the fixed threshold, which is estimated on the same resample.

    Args:
        clean: clean ID scores (N,), from which the threshold comes.
        positive: ID scores (N,) of the same images, clean or attacked; an image is drawn with both.
        negatives: OOD scores (M,) by set.
        resamples: number of bootstrap replicates.
        seed: random seed.
    """
    rng = np.random.default_rng(seed)
    size, (distinct, rank) = clean.size, np.unique(clean, return_inverse=True)
    distance = np.abs(np.arange(size + 1) / size - 0.95).round(12)  # as `threshold_at_tpr`, by the number accepted
    positives, accepted = np.empty(resamples), np.empty((resamples, len(negatives)))
    for k in range(resamples):
        drawn = rng.integers(0, size, size)
        distances = distance[size - np.bincount(rank[drawn], minlength=distinct.size).cumsum()]
        best = distances.argmin()
        threshold = distinct[best] if distances[best] < distance[size] else np.nextafter(clean[drawn].min(), -np.inf)
        positives[k] = np.count_nonzero(positive[drawn] > threshold) / size
        for j, scores in enumerate(negatives.values()):
            sample = scores[rng.integers(0, scores.size, scores.size)]
            accepted[k, j] = np.count_nonzero(sample > threshold) / scores.size
    rates = np.stack([positives, accepted.mean(1)], axis=1)
    low, high = np.percentile(rates, [2.5, 97.5], axis=0)
    return {"tpr_fixed": (float(low[0]), float(high[0])), "fpr_fixed": (float(low[1]), float(high[1]))}
