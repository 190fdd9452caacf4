"""How well scores separate in-distribution from OOD: exact, from ranks, in-distribution positive, higher = more ID.

torchmetrics' curve functions push scores outside [0, 1] through a sigmoid and lose them there, so the pure functions
here sort instead; `OODMetrics` is the thin torchmetrics shell over them.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

Scores = NDArray[np.float64]


def _scores(values: ArrayLike | Tensor, side: str) -> Scores:
    array = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, dtype=np.float64).ravel()
    if array.size == 0:
        raise ValueError(f"no {side} scores")
    if not np.isfinite(array).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(array))} of {array.size} {side} scores are not finite")
    return array


def _counts(id_scores: Scores, ood_scores: Scores) -> tuple[NDArray[np.int64], NDArray[np.int64], Scores]:
    """ID and OOD counts at or above each distinct score, which come third, descending."""
    thresholds = np.unique(np.concatenate([id_scores, ood_scores]))[::-1]
    above = [s.size - np.searchsorted(np.sort(s), thresholds, side="left") for s in (id_scores, ood_scores)]
    return above[0], above[1], thresholds


def auroc(id_scores: ArrayLike | Tensor, ood_scores: ArrayLike | Tensor) -> float:
    """P(ID score > OOD score) + P(equal) / 2: the Mann-Whitney statistic, ties count one half.

    The paper's code counts ties against the detector; `tied_pairs` says how much is at stake.
    """
    positive, negative = _scores(id_scores, "ID"), np.sort(_scores(ood_scores, "OOD"))
    below = np.searchsorted(negative, positive, side="left").sum(dtype=np.int64)
    not_above = np.searchsorted(negative, positive, side="right").sum(dtype=np.int64)
    return float(below + not_above) / (2.0 * positive.size * negative.size)


def tied_pairs(id_scores: ArrayLike | Tensor, ood_scores: ArrayLike | Tensor) -> float:
    """Share of (ID, OOD) pairs with equal scores, in [0, 1]."""
    positive, negative = _scores(id_scores, "ID"), np.sort(_scores(ood_scores, "OOD"))
    ties = np.searchsorted(negative, positive, side="right") - np.searchsorted(negative, positive, side="left")
    return float(ties.sum(dtype=np.int64)) / (positive.size * negative.size)


def threshold_at_tpr(id_scores: ArrayLike | Tensor, tpr: float = 0.95) -> float:
    """Highest score that is rejected when the ID true positive rate is as near as possible to `tpr`.

    A score strictly above it is accepted. Of two equally near rates the higher is taken. If rejecting nothing is
    nearest, it is the float just below the lowest ID score.
    """
    positive = np.sort(_scores(id_scores, "ID"))
    candidates = np.unique(positive)
    accepted = positive.size - np.searchsorted(positive, candidates, side="right")
    rates = np.concatenate([[1.0], accepted / positive.size])
    best = int(np.abs(rates - tpr).round(12).argmin())  # rounded: which of two equally near comes first is no accident
    return float(np.nextafter(candidates[0], -np.inf) if best == 0 else candidates[best - 1])


def fpr_at_tpr(id_scores: ArrayLike | Tensor, ood_scores: ArrayLike | Tensor, tpr: float = 0.95) -> float:
    """Share of OOD scores accepted at the lowest threshold whose ID true positive rate is nearest to `tpr`."""
    return float((_scores(ood_scores, "OOD") > threshold_at_tpr(id_scores, tpr)).mean())


def detection_error(id_scores: ArrayLike | Tensor, ood_scores: ArrayLike | Tensor) -> float:
    """Minimum over thresholds of (1 - TPR + FPR) / 2, in [0, 0.5]: the error at equal priors (eq. 1)."""
    positive, negative = _scores(id_scores, "ID"), _scores(ood_scores, "OOD")
    true, false, _ = _counts(positive, negative)
    return min(0.5, float((1 - true / positive.size + false / negative.size).min()) / 2)


def average_precision(positive: ArrayLike | Tensor, negative: ArrayLike | Tensor) -> float:
    """Area under the precision-recall curve as a step function, sum (R_n - R_n-1) P_n, as scikit-learn defines it.

    The paper's code joins the points by trapezoids instead, which is optimistic; they differ by up to 2e-3 here.
    """
    true, false, _ = _counts(_scores(positive, "positive"), _scores(negative, "negative"))
    steps = np.diff(true, prepend=0) / true[-1]
    return float((steps * true / (true + false)).sum())


def ood_metrics(id_scores: ArrayLike | Tensor, ood_scores: ArrayLike | Tensor) -> dict[str, float]:
    """All five metrics of two score samples, as fractions.

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


class OODMetrics(Metric):
    """`ood_metrics` as a torchmetrics metric: accumulates scores, gathers them across processes, computes once.

    Scores are kept in float32, the only floating type that torchmetrics gathers safely from an empty process.
    """

    full_state_update = False
    id_scores: list[Tensor]
    ood_scores: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("id_scores", default=[], dist_reduce_fx="cat")
        self.add_state("ood_scores", default=[], dist_reduce_fx="cat")

    def update(self, scores: Tensor, is_id: Tensor) -> None:
        """Add scores (N,) with a boolean (N,) that says which are in-distribution."""
        self.id_scores.append(scores[is_id].float())
        self.ood_scores.append(scores[~is_id].float())

    def compute(self) -> dict[str, Tensor]:
        """The five metrics over everything seen since the last reset."""
        values = ood_metrics(dim_zero_cat(self.id_scores), dim_zero_cat(self.ood_scores))
        return {name: torch.tensor(value) for name, value in values.items()}
