"""95 % intervals over the choice of test images, by the bootstrap and, for accuracies, by Wilson's formula."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from aloe_lightning.evaluation.scores import Scores
from aloe_lightning.runtime.progress import track

Array = NDArray[np.float64]
METRICS = ("fpr95", "detection_error", "auroc")
RESAMPLES, CHUNK, LEVEL = 500, 50, 0.95


def intervals_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the columns low and high of table numbers, in percent; NaN for numbers of several seeds."""
    bounds = pd.DataFrame(float("nan"), index=frame.index, columns=["low", "high"])
    by_run = list(frame[frame.seeds == 1].groupby("folder"))
    for folder, rows in track(by_run, len(by_run), "intervals", unit="cells"):
        scores = Scores.load(folder / "scores.npz")
        resampled: dict[tuple[str, str], dict[str, tuple[float, float]]] = {}  # metrics of the same scores together
        for row in rows.itertuples():
            detector = row.method.detector
            if row.table == "table4":
                interval = share_interval(row.value / 100, row.num_id)
            elif row.table == "table2":
                clean, attacked = scores[detector, "id", "clean"], scores[detector, "id", "misclassified"]
                interval = rejected_interval(clean, attacked)
            else:
                key = detector, "attacked" if row.epsilon else "clean"
                if key not in resampled:
                    ood_scores = {name: scores[detector, name, key[1]] for name in scores.ood_sets}
                    resampled[key] = intervals(scores[detector, "id", key[1]], ood_scores)
                interval = resampled[key][row.metric]
            bounds.loc[row.Index] = 100 * interval[0], 100 * interval[1]
    return bounds


def intervals(
    id_scores: ArrayLike, ood_scores: Mapping[str, ArrayLike], *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return the interval of each metric's mean over OOD sets; each set is resampled, the in-distribution images once.

    The net is fixed: the variation between trainings is shown by several seeds. Scores are (N,), and (M,) for each OOD
    set by name; higher = more in-distribution.
    """
    id_sorted = np.sort(np.asarray(id_scores, dtype=np.float64))
    ood_sorted = [np.sort(np.asarray(scores, dtype=np.float64)) for scores in ood_scores.values()]
    rng = np.random.default_rng(seed)

    def means(size: int) -> list[Array]:
        weights = _draws(rng, id_sorted.size, size)
        by_set = [weighted_metrics(id_sorted, weights, scores, _draws(rng, scores.size, size)) for scores in ood_sorted]
        return [np.mean([metrics[metric] for metrics in by_set], axis=0) for metric in METRICS]

    return dict(zip(METRICS, _bootstrapped(means, resamples), strict=True))


def rejected_interval(clean: ArrayLike, misclassified: ArrayLike) -> tuple[float, float]:
    """Return the interval of Table 2's share of rejected images, given two scores (N,) of each in-distribution image.

    An image is drawn with its attacked version.
    """
    before, after = np.asarray(clean, dtype=np.float64), np.asarray(misclassified, dtype=np.float64)
    first, second = np.argsort(before, kind="stable"), np.argsort(after, kind="stable")
    rng = np.random.default_rng(0)

    def rejected(size: int) -> list[Array]:
        draws = _draws(rng, before.size, size)
        return [1 - weighted_metrics(before[first], draws[:, first], after[second], draws[:, second])["fpr95"]]

    (interval,) = _bootstrapped(rejected, RESAMPLES)
    return interval


def share_interval(share: float, count: int) -> tuple[float, float]:
    """Return Wilson's interval of a share of `count` images, such as an accuracy."""
    z = 1.959964
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))


def _bootstrapped(replicates: Callable[[int], list[Array]], resamples: int) -> list[tuple[float, float]]:
    """Return an interval for each quantity of which a function returns that many replicates; limit the memory."""
    chunks = [replicates(min(CHUNK, resamples - start)) for start in range(0, resamples, CHUNK)]
    return [percentile_interval(np.concatenate(values)) for values in zip(*chunks, strict=True)]


def percentile_interval(values: ArrayLike) -> tuple[float, float]:
    """Return the central interval that holds 95 % of bootstrapped values."""
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(np.asarray(values, dtype=np.float64), [tail, 100 - tail])
    return float(low), float(high)


def weighted_metrics(id_sorted: Array, id_weights: Array, ood_sorted: Array, ood_weights: Array) -> dict[str, Array]:
    """Return the metrics of B samples that hold each score some number of times.

    Args:
        id_sorted: ID scores (N,), ascending.
        id_weights: multiplicities (B, N); every row has the same sum.
        ood_sorted: OOD scores (M,), ascending.
        ood_weights: (B, M), likewise.

    Returns:
        (B,) for each of `METRICS`, equal to `aloe_lightning.metrics` of the samples with their repetitions.
    """
    total, others = id_weights[0].sum(), ood_weights[0].sum()
    values, first = np.unique(id_sorted, return_index=True)
    below = _below(id_weights)
    here = np.diff(below[:, [*first, id_sorted.size]], axis=1)  # weight of each distinct ID score
    accepted = total - below[:, first]  # at or above each: the least error has its threshold at one of them
    under = _below(ood_weights)
    lower = under[:, np.searchsorted(ood_sorted, values)]
    upper = under[:, np.searchsorted(ood_sorted, values, side="right")]
    error = np.minimum(0.5, (1 - accepted / total + (others - lower) / others).min(axis=1) / 2)
    # FPR95: strictly above the lowest score whose true positive rate is nearest to 95 %; or nothing is rejected.
    rates = np.hstack([np.ones((len(here), 1)), (accepted - here) / total])
    best = np.abs(rates - 0.95).round(12).argmin(axis=1)[:, None]
    lowest = np.take_along_axis(others - lower, (here > 0).argmax(axis=1)[:, None], axis=1)
    above = np.take_along_axis(others - upper, np.maximum(best - 1, 0), axis=1)
    all_accepted = np.take_along_axis(rates, best, axis=1) == 1
    return {
        "fpr95": (np.where(all_accepted, lowest, above) / others)[:, 0],
        "detection_error": error,
        "auroc": (here * (lower + upper)).sum(axis=1) / (2 * total * others),
    }


def _below(weights: Array) -> Array:
    """Return the weight of the first k scores: (B, N) -> (B, N + 1)."""
    return np.hstack([np.zeros((len(weights), 1)), weights.cumsum(axis=1)])


def _draws(rng: np.random.Generator, count: int, rows: int) -> Array:
    """Return how often each of `count` images is drawn in each of `rows` resamples: (rows, count)."""
    drawn = rng.integers(0, count, (rows, count)) + count * np.arange(rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)
