import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from aloe_lightning.metrics import ood_metrics, threshold_at_tpr, tied_pairs

CASES = ("gauss", "separable", "inverted", "softmax_like", "tiny_range", "big_range", "unbalanced")
SCORES = st.lists(st.integers(0, 12), min_size=1, max_size=30)


def slow_fpr95(id_scores, ood_scores):
    """Every threshold between scores, the nearest true positive rate, of equally near the lowest threshold."""
    best = None
    cuts = [min(id_scores) - 0.5, *(v + 0.25 for v in sorted(set(id_scores)))]
    for cut in cuts:
        tpr = sum(v > cut for v in id_scores) / len(id_scores)
        distance = round(abs(tpr - 0.95), 12)
        if best is None or distance < best[0]:
            best = (distance, sum(v > cut for v in ood_scores) / len(ood_scores))
    return best[1]


def slow_detection_error(id_scores, ood_scores):
    cuts = [-1e9, *(v + 0.25 for v in set(id_scores) | set(ood_scores))]
    return min(
        (sum(v <= c for v in id_scores) / len(id_scores) + sum(v > c for v in ood_scores) / len(ood_scores)) / 2
        for c in cuts
    )


@pytest.mark.parametrize("case", CASES)
def test_equal_to_the_authors(shared, case):
    """Theirs are trapezoids under the precision-recall curve, ours the step function: hence 2e-3 for the two AUPRs."""
    with np.load(shared / "golden" / "metrics.npz", allow_pickle=False) as golden:
        metrics = ood_metrics(golden[f"{case}_id"], golden[f"{case}_ood"])
        assert metrics["fpr95"] == pytest.approx(float(golden[f"{case}_FPR"]), abs=1e-9)
        assert metrics["detection_error"] == pytest.approx(float(golden[f"{case}_DTERR"]), abs=1e-9)
        assert metrics["auroc"] == pytest.approx(float(golden[f"{case}_AUROC"]), abs=1e-9)
        assert metrics["aupr_in"] == pytest.approx(float(golden[f"{case}_AUIN"]), abs=2e-3)
        assert metrics["aupr_out"] == pytest.approx(float(golden[f"{case}_AUOUT"]), abs=2e-3)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("shift", [-60.0, 0.0, 30.0])
@pytest.mark.parametrize("decimals", [1, 12])
def test_areas_equal_scikit_learns_at_any_scale_with_and_without_ties(scale, shift, decimals):
    rng = np.random.default_rng(0)
    known = (rng.normal(1, 1, 3000).round(decimals) + shift) * scale
    novel = (rng.normal(0, 1, 2000).round(decimals) + shift) * scale
    labels, scores = np.repeat([1, 0], [3000, 2000]), np.concatenate([known, novel])
    metrics = ood_metrics(known, novel)
    assert metrics["auroc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert metrics["aupr_in"] == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    assert metrics["aupr_out"] == pytest.approx(average_precision_score(1 - labels, -scores), abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(id_scores=SCORES, ood_scores=SCORES)
def test_every_metric_equals_a_slow_loop_with_ties(id_scores, ood_scores):
    metrics = ood_metrics(id_scores, ood_scores)
    pairs = [(a > b) + (a == b) / 2 for a in id_scores for b in ood_scores]
    assert metrics["auroc"] == pytest.approx(sum(pairs) / len(pairs))
    assert tied_pairs(id_scores, ood_scores) == pytest.approx(sum(p == 0.5 for p in pairs) / len(pairs))
    assert metrics["fpr95"] == pytest.approx(slow_fpr95(id_scores, ood_scores))
    assert metrics["detection_error"] == pytest.approx(slow_detection_error(id_scores, ood_scores))


@settings(max_examples=50, deadline=None)
@given(id_scores=SCORES, ood_scores=SCORES, scale=st.integers(1, 50), shift=st.integers(-100, 100))
def test_metrics_depend_on_ranks_only(id_scores, ood_scores, scale, shift):
    moved = ood_metrics([scale * v + shift for v in id_scores], [scale * v + shift for v in ood_scores])
    assert moved == ood_metrics(id_scores, ood_scores)


def test_closed_forms():
    perfect = ood_metrics(np.arange(100, 200), np.arange(100))
    assert perfect == pytest.approx(
        {"fpr95": 0.0, "detection_error": 0.0, "auroc": 1.0, "aupr_in": 1.0, "aupr_out": 1.0}
    )
    reversed_ = ood_metrics(np.arange(100), np.arange(100, 200))
    assert (reversed_["fpr95"], reversed_["auroc"], reversed_["detection_error"]) == (1.0, 0.0, 0.5)
    constant = ood_metrics(np.ones(40), np.ones(60))
    assert (constant["fpr95"], constant["auroc"], constant["aupr_in"]) == (1.0, 0.5, 0.4)


@pytest.mark.parametrize("count", [10, 30, 50, 70])
def test_of_two_equally_near_rates_the_higher_is_taken(count):
    rejected = (np.arange(count) <= threshold_at_tpr(np.arange(count))).sum()
    assert rejected == count // 20  # count / 20 is a half more


def test_threshold_rejects_five_percent():
    scores = np.arange(1, 101)
    assert threshold_at_tpr(scores) == 5
    assert (scores > threshold_at_tpr(scores)).mean() == 0.95


@pytest.mark.parametrize(("bad", "message"), [([], "no ID scores"), ([1.0, float("nan")], "1 of 2 ID scores")])
def test_empty_and_non_finite_scores_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        ood_metrics(bad, [0.0])


def test_tensors_give_what_arrays_give():
    scores = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64, requires_grad=True)
    assert ood_metrics(scores, scores - 1) == ood_metrics(scores.tolist(), (scores - 1).detach().numpy())


def test_metrics_are_computed_without_torch():
    code = "import sys, aloe_lightning.metrics as m; m.ood_metrics([1.0], [0.0]); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
