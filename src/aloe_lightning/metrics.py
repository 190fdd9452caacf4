"""Metrics of the separation of in-distribution from OOD scores, exact from ranks; in-distribution is positive.

torchmetrics' curve functions put scores outside [0, 1] through a sigmoid, which loses them. Imports no torch: tensors
are recognised by their method `detach`.
"""

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from torch import Tensor

ScoresLike: TypeAlias = "ArrayLike | Tensor"
"""Scores (N,), higher = more in-distribution: an array, a sequence or a tensor."""
Array = NDArray[np.float64]


def _scores(values: ScoresLike, side: str) -> Array:
    detach = getattr(values, "detach", None)
    array = np.asarray(values if detach is None else detach().cpu(), dtype=np.float64).ravel()
    if array.size == 0:
        raise ValueError(f"no {side} scores")
    if not np.isfinite(array).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(array))} of {array.size} {side} scores are not finite")
    return array


def _counts(positive: Array, negative: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of positive and of negative scores at or above each distinct score, in descending order."""
    thresholds = np.unique(np.concatenate([positive, negative]))[::-1]
    above = [s.size - np.searchsorted(np.sort(s), thresholds, side="left") for s in (positive, negative)]
    return above[0], above[1]


def auroc(id_scores: ScoresLike, ood_scores: ScoresLike) -> float:
    """Return P(ID score > OOD score) + P(equal) / 2: the Mann-Whitney statistic, ties count one half.

    The paper's code counts ties against the detector; the two differ by half of `tied_pairs`.
    """
    positive, negative = _scores(id_scores, "ID"), np.sort(_scores(ood_scores, "OOD"))
    below = np.searchsorted(negative, positive, side="left").sum(dtype=np.int64)
    not_above = np.searchsorted(negative, positive, side="right").sum(dtype=np.int64)
    return float(below + not_above) / (2.0 * positive.size * negative.size)


def tied_pairs(id_scores: ScoresLike, ood_scores: ScoresLike) -> float:
    """Return the share of (ID, OOD) pairs with equal scores, in [0, 1]."""
    positive, negative = _scores(id_scores, "ID"), np.sort(_scores(ood_scores, "OOD"))
    ties = np.searchsorted(negative, positive, side="right") - np.searchsorted(negative, positive, side="left")
    return float(ties.sum(dtype=np.int64)) / (positive.size * negative.size)


def threshold_at_tpr(id_scores: ScoresLike, tpr: float = 0.95) -> float:
    """Return the highest score that is rejected when the ID true positive rate is as near as possible to `tpr`.

    Scores strictly above it are accepted. Of two equally near rates the higher is taken. If rejecting nothing is
    nearest, the threshold is the float just below the lowest ID score.
    """
    positive = np.sort(_scores(id_scores, "ID"))
    candidates = np.unique(positive)
    accepted = positive.size - np.searchsorted(positive, candidates, side="right")
    rates = np.concatenate([[1.0], accepted / positive.size])
    best = int(np.abs(rates - tpr).round(12).argmin())  # rounded, so that equally near rates are equal
    return float(np.nextafter(candidates[0], -np.inf) if best == 0 else candidates[best - 1])


def fpr_at_tpr(id_scores: ScoresLike, ood_scores: ScoresLike, tpr: float = 0.95) -> float:
    """Return the share of OOD scores accepted at the lowest threshold with ID true positive rate nearest to `tpr`."""
    return float((_scores(ood_scores, "OOD") > threshold_at_tpr(id_scores, tpr)).mean())


def detection_error(id_scores: ScoresLike, ood_scores: ScoresLike) -> float:
    """Return the minimum over thresholds of (1 - TPR + FPR) / 2, in [0, 0.5]: the error at equal priors (eq. 1)."""
    positive, negative = _scores(id_scores, "ID"), _scores(ood_scores, "OOD")
    true, false = _counts(positive, negative)
    return min(0.5, float((1 - true / positive.size + false / negative.size).min()) / 2)


def average_precision(positive: ScoresLike, negative: ScoresLike) -> float:
    """Return the area under the precision-recall curve, a step function: sum (R_n - R_n-1) P_n, as in scikit-learn.

    The paper's code joins the points by trapezoids instead, which is optimistic; they differ by up to 2e-3 here.
    """
    true, false = _counts(_scores(positive, "positive"), _scores(negative, "negative"))
    steps = np.diff(true, prepend=0) / true[-1]
    return float((steps * true / (true + false)).sum())


def ood_metrics(id_scores: ScoresLike, ood_scores: ScoresLike) -> dict[str, float]:
    """Return the five metrics of two score samples, as fractions.

    Args:
        id_scores: (N,) finite scores of in-distribution samples, the positive class.
        ood_scores: (M,) finite scores of OOD samples.

    Returns:
        `fpr95` and `detection_error` (lower is better), `auroc`, `aupr_in` and `aupr_out` (higher is better).

    Raises:
        ValueError: if a side is empty or a score is not finite.
    """
    positive, negative = _scores(id_scores, "ID"), _scores(ood_scores, "OOD")
    return {
        "fpr95": fpr_at_tpr(positive, negative),
        "detection_error": detection_error(positive, negative),
        "auroc": auroc(positive, negative),
        "aupr_in": average_precision(positive, negative),
        "aupr_out": average_precision(-negative, -positive),
    }
