"""Metrics of the separation of in-distribution from OOD scores, exact from ranks; in-distribution is positive.

torchmetrics' curve functions put scores outside [0, 1] through a sigmoid, which loses them. Imports no torch: tensors
are recognised by their method `detach`.
"""

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aloe_lightning.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

ScoresLike: TypeAlias = "ArrayLike | Tensor"
"""Scores (N,), higher = more in-distribution: an array, a sequence or a tensor."""
Array = NDArray[np.float64]
EXACT = 2**53
"""Up to this magnitude float64 represents every whole number."""


def _scores(values: ScoresLike, side: str) -> Array:
    return _plain(values, side).astype(np.float64)


def _plain(values: ScoresLike, side: str) -> NDArray[Any]:
    """Return scores (N,) in their own type, after all checks."""
    if str(getattr(values, "dtype", "")) == "torch.bfloat16":
        raise UserError(f"{side} scores are bfloat16, which makes most of them equal: compute them in float32")
    detach = getattr(values, "detach", None)
    array = np.asanyarray(values if detach is None else detach().cpu())
    if array.size == 0:
        raise UserError(f"no {side} scores")
    if array.dtype.kind not in "biuf" or isinstance(array, np.ma.MaskedArray):
        raise UserError(f"{side} scores must be plain numbers (got {type(values).__name__} of {array.dtype})")
    if array.size != max(array.shape, default=1):
        raise UserError(f"{side} scores have the shape {array.shape}; they must be one number per image, (N,)")
    if array.dtype.kind in "iu" and (array.max() > EXACT or array.min() < -EXACT):
        raise UserError(f"{side} scores are whole numbers beyond 2^53, which float64 cannot tell apart")
    if not np.isfinite(array).all():
        raise UserError(f"{np.count_nonzero(~np.isfinite(array))} of {array.size} {side} scores are not finite")
    return np.asarray(array).ravel()


def _pair(id_scores: ScoresLike, ood_scores: ScoresLike, sides: tuple[str, str] = ("ID", "OOD")) -> tuple[Array, Array]:
    """Return both samples in float64, both first rounded to the coarser of their floating-point types.

    Otherwise 0.1 in float32 is larger than 0.1 in float64, and rounding alone decides between equal scores.
    """
    arrays = [_plain(values, side) for values, side in zip((id_scores, ood_scores), sides, strict=True)]
    if all(array.dtype.kind == "f" for array in arrays):
        coarser = min((array.dtype for array in arrays), key=lambda dtype: dtype.itemsize)
        with np.errstate(over="ignore"):
            arrays = [_plain(array.astype(coarser), side) for array, side in zip(arrays, sides, strict=True)]
    return arrays[0].astype(np.float64), arrays[1].astype(np.float64)


def _counts(positive: Array, negative: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of positive and of negative scores at or above each distinct score, in descending order."""
    thresholds = np.unique(np.concatenate([positive, negative]))[::-1]
    above = [s.size - np.searchsorted(np.sort(s), thresholds, side="left") for s in (positive, negative)]
    return above[0], above[1]


def auroc(id_scores: ScoresLike, ood_scores: ScoresLike) -> float:
    """Return P(ID score > OOD score) + P(equal) / 2: the Mann-Whitney statistic, ties count one half.

    The paper's code counts ties against the detector; the two differ by half of `tied_pairs`.
    """
    positive, negative = _pair(id_scores, ood_scores)
    negative = np.sort(negative)
    below = np.searchsorted(negative, positive, side="left").sum(dtype=np.int64)
    not_above = np.searchsorted(negative, positive, side="right").sum(dtype=np.int64)
    return float(below + not_above) / (2.0 * positive.size * negative.size)


def tied_pairs(id_scores: ScoresLike, ood_scores: ScoresLike) -> float:
    """Return the share of (ID, OOD) pairs with equal scores, in [0, 1]."""
    positive, negative = _pair(id_scores, ood_scores)
    negative = np.sort(negative)
    ties = np.searchsorted(negative, positive, side="right") - np.searchsorted(negative, positive, side="left")
    return float(ties.sum(dtype=np.int64)) / (positive.size * negative.size)


def threshold_at_tpr(id_scores: ScoresLike, tpr: float = 0.95) -> float:
    """Return the highest score that is rejected when the ID true positive rate is as near as possible to `tpr`.

    Scores strictly above it are accepted. Of two equally near rates the higher is taken. If rejecting nothing is
    nearest, the threshold is the float just below the lowest ID score.

    Raises:
        UserError: if `tpr` is not in [0, 1].
    """
    if not 0 <= tpr <= 1:
        raise UserError(f"tpr is a fraction in [0, 1], 0.95 for 95 % (got {tpr})")
    positive = np.sort(_scores(id_scores, "ID"))
    candidates = np.unique(positive)
    accepted = positive.size - np.searchsorted(positive, candidates, side="right")
    rates = np.concatenate([[1.0], accepted / positive.size])
    best = int(np.abs(rates - tpr).round(12).argmin())  # rounded, so that equally near rates are equal
    return float(np.nextafter(candidates[0], -np.inf) if best == 0 else candidates[best - 1])


def fpr_at_tpr(id_scores: ScoresLike, ood_scores: ScoresLike, tpr: float = 0.95) -> float:
    """Return the share of OOD scores accepted at the lowest threshold with ID true positive rate nearest to `tpr`."""
    positive, negative = _pair(id_scores, ood_scores)
    return float((negative > threshold_at_tpr(positive, tpr)).mean())


def detection_error(id_scores: ScoresLike, ood_scores: ScoresLike) -> float:
    """Return the minimum over thresholds of (1 - TPR + FPR) / 2, in [0, 0.5]: the error at equal priors (eq. 1)."""
    positive, negative = _pair(id_scores, ood_scores)
    true, false = _counts(positive, negative)
    return min(0.5, float((1 - true / positive.size + false / negative.size).min()) / 2)


def average_precision(positive: ScoresLike, negative: ScoresLike) -> float:
    """Return the area under the precision-recall curve, a step function: sum (R_n - R_n-1) P_n, as in scikit-learn.

    The paper's code joins the points by trapezoids instead, which is optimistic; they differ by up to 2e-3 here.
    """
    true, false = _counts(*_pair(positive, negative, ("positive", "negative")))
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
        UserError: if a side is empty, a score is not finite, or scores are not one number per image.
    """
    positive, negative = _pair(id_scores, ood_scores)
    return {
        "fpr95": fpr_at_tpr(positive, negative),
        "detection_error": detection_error(positive, negative),
        "auroc": auroc(positive, negative),
        "aupr_in": average_precision(positive, negative),
        "aupr_out": average_precision(-negative, -positive),
    }
