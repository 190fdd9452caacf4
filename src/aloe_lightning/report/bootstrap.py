"""How far chance in the choice of test images moves a number: 95 % percentile intervals by the bootstrap."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
METRICS = ("fpr95", "detection_error", "auroc")
RESAMPLES, CHUNK = 500, 50


def interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """The central percentile interval of bootstrapped values."""
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(np.asarray(values, dtype=np.float64), [tail, 100 - tail])
    return float(low), float(high)


def intervals(
    id_scores: ArrayLike, ood_scores: Mapping[str, ArrayLike], *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Intervals of each metric's mean over OOD sets; images are drawn anew in every set, the in-distribution ones once.

    The net is taken as given: what another training would do is what several seeds show.

    Args:
        id_scores: (N,), higher = more in-distribution.
        ood_scores: (M,) for each OOD set by name.
        resamples: bootstrap replicates.
        seed: of the resampling.
    """
    known = np.sort(np.asarray(id_scores, dtype=np.float64))
    novel = [np.sort(np.asarray(scores, dtype=np.float64)) for scores in ood_scores.values()]
    rng = np.random.default_rng(seed)
    means: dict[str, list[Array]] = {metric: [] for metric in METRICS}
    for size in _chunks(resamples):
        weights = _draws(rng, known.size, size)
        found = [weighted_metrics(known, weights, scores, _draws(rng, scores.size, size)) for scores in novel]
        for metric in METRICS:
            means[metric].append(np.mean([one[metric] for one in found], axis=0))
    return {metric: interval(np.concatenate(values)) for metric, values in means.items()}


def rejected_interval(
    clean: ArrayLike, misled: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Of Table 2's share of attacked images that are rejected; an image is drawn with its attacked version.

    Args:
        clean: (N,) scores of the clean in-distribution images.
        misled: (N,) scores of the same images after the attack on the classifier.
        resamples: bootstrap replicates.
        seed: of the resampling.
    """
    before, after = np.asarray(clean, dtype=np.float64), np.asarray(misled, dtype=np.float64)
    first, second = np.argsort(before, kind="stable"), np.argsort(after, kind="stable")
    rng = np.random.default_rng(seed)
    values = []
    for size in _chunks(resamples):
        draws = _draws(rng, before.size, size)
        found = weighted_metrics(before[first], draws[:, first], after[second], draws[:, second])
        values.append(1 - found["fpr95"])
    return interval(np.concatenate(values))


def share_interval(share: float, count: int) -> tuple[float, float]:
    """Wilson's interval of a share of `count` images, such as an accuracy."""
    z = 1.959964
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))


def weighted_metrics(known: Array, w_known: Array, novel: Array, w_novel: Array) -> dict[str, Array]:
    """The metrics of B samples that hold each score some number of times.

    Args:
        known: ID scores (N,), ascending.
        w_known: how often each is there, (B, N); every row has the same sum.
        novel: OOD scores (M,), ascending.
        w_novel: (B, M), likewise.

    Returns:
        (B,) for each of `METRICS`: what `aloe_lightning.metrics` gives for the samples written out.
    """
    total, others = w_known[0].sum(), w_novel[0].sum()
    values, first = np.unique(known, return_index=True)
    below = _below(w_known)
    here = np.diff(below[:, [*first, known.size]], axis=1)  # weight of each distinct ID score
    accepted = total - below[:, first]  # at or above each: the least error has its threshold at one of them
    under = _below(w_novel)
    lower, upper = under[:, np.searchsorted(novel, values)], under[:, np.searchsorted(novel, values, side="right")]
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
    """(B, N) -> (B, N + 1): the weight of the first k scores."""
    return np.hstack([np.zeros((len(weights), 1)), weights.cumsum(axis=1)])


def _draws(rng: np.random.Generator, count: int, rows: int) -> Array:
    """How often each of `count` images is drawn in each of `rows` resamples: (rows, count)."""
    drawn = rng.integers(0, count, (rows, count)) + count * np.arange(rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)


def _chunks(resamples: int) -> Iterator[int]:
    yield from (min(CHUNK, resamples - start) for start in range(0, resamples, CHUNK))


def spread(values: Sequence[float]) -> float:
    """Standard deviation over seeds (n - 1)."""
    return float(np.std(values, ddof=1))
