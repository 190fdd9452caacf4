"""Uncertainty from the choice of test images: 95 % percentile intervals by the bootstrap."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
METRICS = ("fpr95", "detection_error", "auroc")
RESAMPLES, CHUNK = 500, 50


def interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Return the central percentile interval of bootstrapped values."""
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(np.asarray(values, dtype=np.float64), [tail, 100 - tail])
    return float(low), float(high)


def intervals(
    id_scores: ArrayLike, ood_scores: Mapping[str, ArrayLike], *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return the interval of each metric's mean over OOD sets; each set is resampled, the in-distribution images once.

    The net is fixed: the variation between trainings is shown by several seeds.

    Args:
        id_scores: (N,), higher = more in-distribution.
        ood_scores: (M,) for each OOD set by name.
        resamples: number of bootstrap replicates.
        seed: random seed of the resampling.
    """
    id_sorted = np.sort(np.asarray(id_scores, dtype=np.float64))
    ood_sorted = [np.sort(np.asarray(scores, dtype=np.float64)) for scores in ood_scores.values()]
    rng = np.random.default_rng(seed)
    means: dict[str, list[Array]] = {metric: [] for metric in METRICS}
    for size in _chunks(resamples):
        weights = _draws(rng, id_sorted.size, size)
        by_set = [weighted_metrics(id_sorted, weights, scores, _draws(rng, scores.size, size)) for scores in ood_sorted]
        for metric in METRICS:
            means[metric].append(np.mean([metrics[metric] for metrics in by_set], axis=0))
    return {metric: interval(np.concatenate(values)) for metric, values in means.items()}


def rejected_interval(
    clean: ArrayLike, misclassified: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Return the interval of Table 2's share of rejected images; an image is drawn with its attacked version.

    Args:
        clean: (N,) scores of the clean in-distribution images.
        misclassified: (N,) scores of the same images after the attack on the classifier.
        resamples: number of bootstrap replicates.
        seed: random seed of the resampling.
    """
    before, after = np.asarray(clean, dtype=np.float64), np.asarray(misclassified, dtype=np.float64)
    first, second = np.argsort(before, kind="stable"), np.argsort(after, kind="stable")
    rng = np.random.default_rng(seed)
    values = []
    for size in _chunks(resamples):
        draws = _draws(rng, before.size, size)
        metrics = weighted_metrics(before[first], draws[:, first], after[second], draws[:, second])
        values.append(1 - metrics["fpr95"])
    return interval(np.concatenate(values))


def share_interval(share: float, count: int) -> tuple[float, float]:
    """Return Wilson's interval of a share of `count` images, such as an accuracy."""
    z = 1.959964
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))


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
    lower, upper = (
        under[:, np.searchsorted(ood_sorted, values)],
        under[:, np.searchsorted(ood_sorted, values, side="right")],
    )
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


def _chunks(resamples: int) -> Iterator[int]:
    yield from (min(CHUNK, resamples - start) for start in range(0, resamples, CHUNK))


def spread(values: Sequence[float]) -> float:
    """Return the standard deviation over seeds (n - 1); NaN for a single one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
