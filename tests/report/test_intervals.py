"""Intervals against samples written out, closed forms and how often they hold the truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from aloe_lightning.metrics import ood_metrics
from aloe_lightning.report.intervals import (
    METRICS,
    intervals,
    percentile_interval,
    rejected_interval,
    share_interval,
    weighted_metrics,
)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2), st.integers(0, 10**6))
def test_weights_give_what_the_sample_written_out_gives(n, m, decimals, seed):
    """Ties within and across sides, scores that a resample has not, and samples too small to reject anything."""
    rng = np.random.default_rng(seed)
    known, novel = np.sort(rng.normal(1, 1, n).round(decimals)), np.sort(rng.normal(0, 1, m).round(decimals))
    weights = [np.stack([np.bincount(rng.integers(0, k, k), minlength=k) for _ in range(3)]) for k in (n, m)]
    found = weighted_metrics(known, weights[0].astype(float), novel, weights[1].astype(float))
    for row, (times, others) in enumerate(zip(*weights, strict=True)):
        expected = ood_metrics(np.repeat(known, times), np.repeat(novel, others))
        for metric in METRICS:
            assert found[metric][row] == pytest.approx(expected[metric], abs=1e-12), metric


def test_the_mean_over_sets_is_bootstrapped_and_not_each_set():
    """Against a slow loop that draws anew, by its spread: the same in-distribution draw serves every set."""
    rng = np.random.default_rng(0)
    known = rng.normal(1, 1, 300)
    sets = {name: rng.normal(mean, 1, 200) for name, mean in (("a", 0.0), ("b", 0.5))}
    found = intervals(known, sets, resamples=2000)
    slow = {metric: [] for metric in METRICS}
    for _ in range(600):
        inside = rng.choice(known, known.size)
        each = [ood_metrics(inside, rng.choice(scores, scores.size)) for scores in sets.values()]
        for metric in METRICS:
            slow[metric].append(np.mean([one[metric] for one in each]))
    for metric in METRICS:
        low, high = percentile_interval(slow[metric])
        assert found[metric] == pytest.approx((low, high), abs=0.2 * (high - low)), metric


def test_intervals_hold_the_true_auroc_as_often_as_they_say():
    rng = np.random.default_rng(1)
    truth = 0.7602499389  # Phi(1 / sqrt 2)
    held = 0
    for trial in range(200):
        low, high = intervals(rng.normal(1, 1, 80), {"a": rng.normal(0, 1, 80)}, resamples=200, seed=trial)["auroc"]
        held += low <= truth <= high
    assert binomtest(held, 200, 0.95).pvalue > 1e-3


def test_intervals_are_replayed_by_the_seed():
    scores = np.random.default_rng(0).normal(size=(2, 50))
    assert intervals(scores[0], {"a": scores[1]}, resamples=99) == intervals(scores[0], {"a": scores[1]}, resamples=99)
    assert intervals(scores[0], {"a": scores[1]}, resamples=99) != intervals(
        scores[0], {"a": scores[1]}, resamples=99, seed=1
    )


def test_an_image_is_drawn_with_its_attacked_version():
    """An attack that changes no score leaves no chance but that of the threshold's own place."""
    clean = np.random.default_rng(0).normal(size=2000)
    low, high = rejected_interval(clean, clean)
    assert high - low < 2e-3  # unpaired draws would give 0.02
    assert low == pytest.approx(0.05, abs=1e-3)


@pytest.mark.parametrize(("share", "count"), [(0.9, 1000), (0.0, 30), (1.0, 30), (0.5, 7)])
def test_the_interval_of_a_share_is_wilsons(share, count):
    expected = binomtest(round(share * count), count).proportion_ci(method="wilson")
    assert share_interval(round(share * count) / count, count) == pytest.approx((expected.low, expected.high), abs=1e-6)
