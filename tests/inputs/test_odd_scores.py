"""Scores of every odd kind: metrics by a slow loop over pairs, or one clear line."""

import numpy as np
import pytest
import torch

from aloe_lightning.errors import UserError
from aloe_lightning.metrics import auroc, fpr_at_tpr, ood_metrics, threshold_at_tpr, tied_pairs


def slow_auroc(id_scores, ood_scores):
    pairs = [(float(a), float(b)) for a in id_scores for b in ood_scores]
    return sum((a > b) + (a == b) / 2 for a, b in pairs) / len(pairs)


USABLE = {
    "constant": ([1.0] * 5, [1.0] * 3),
    "one element": ([1.0], [0.0]),
    "one tie": ([1.0], [1.0]),
    "ties": ([0.1, 0.5, 0.5, 0.9], [0.5, 0.5, 0.1]),
    "whole numbers": ([3, 1, 2], [0, 2]),
    "switches": ([True, False, True], [False]),
    "minus zero": ([0.0], [-0.0]),
    "smallest": ([5e-324], [0.0]),
    "largest": ([1.7e308, -1.7e308], [0.0]),
    "float16": (np.float16([1, 2]), np.float16([1, 0])),
    "column": (np.array([[1.0], [2.0]]), np.array([1.5, 0])),
    "tensor": (torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([1.5])),
    "scalars": (1.0, 0.0),
}


@pytest.mark.parametrize("kind", USABLE)
def test_the_area_is_that_of_a_loop_over_pairs(kind):
    id_scores, ood_scores = USABLE[kind]
    plain = [np.ravel(s.detach() if isinstance(s, torch.Tensor) else s) for s in (id_scores, ood_scores)]
    expected = slow_auroc(*plain)
    assert auroc(id_scores, ood_scores) == ood_metrics(id_scores, ood_scores)["auroc"] == pytest.approx(expected)


@pytest.mark.parametrize("types", [(np.float32, np.float64), (np.float64, np.float32), (np.float16, np.float64)])
def test_equal_scores_in_two_precisions_are_ties(types):
    values = [0.1, 0.2, 0.3]
    id_scores, ood_scores = types[0](values), types[1](values)
    assert auroc(id_scores, ood_scores) == 0.5
    assert tied_pairs(id_scores, ood_scores) == pytest.approx(1 / 3)
    assert fpr_at_tpr(id_scores, ood_scores) == 1
    assert ood_metrics(id_scores, ood_scores) == ood_metrics(*(np.float16(values).astype(np.float64),) * 2)


REFUSED = {
    "none": ([], "no ID scores"),
    "NaN": ([1.0, np.nan], "1 of 2 ID scores are not finite"),
    "inf": ([np.inf, -np.inf], "2 of 2 ID scores are not finite"),
    "beyond float16": (np.array([1e5]), "1 of 1 ID scores are not finite"),
    "logits": (np.ones((3, 2)), r"shape \(3, 2\)"),
    "text": (["1", "2"], "plain numbers"),
    "objects": (np.array([1, None], object), "plain numbers"),
    "complex": ([1 + 1j], "plain numbers"),
    "masked": (np.ma.masked_array([1.0, 2.0], [True, False]), "plain numbers"),
    "mapping": ({"a": 1}, "plain numbers"),
    "generator": ((x for x in [1.0]), "plain numbers"),
    "bfloat16": (torch.ones(2).bfloat16(), "compute them in float32"),
    "beyond 2^53": ([2**53 + 1], r"beyond 2\^53"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_scores_that_have_no_metric_are_refused(kind):
    scores, message = REFUSED[kind]
    other = np.float16([0.0]) if kind == "beyond float16" else [0]
    for metric in (ood_metrics, auroc, tied_pairs, fpr_at_tpr):
        with pytest.raises(UserError, match=message):
            metric(scores, other)


@pytest.mark.parametrize("rate", [95, 1.5, -0.1, float("nan")])
def test_a_rate_is_a_fraction(rate):
    with pytest.raises(UserError, match="fraction"):
        threshold_at_tpr([1, 2, 3], rate)
