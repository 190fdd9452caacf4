import numpy as np
import pytest
import torch

from aloe_lightning.evaluation.torchmetrics_metric import OODMetrics
from aloe_lightning.metrics import ood_metrics


def test_metric_class_accumulates_to_the_function():
    rng = np.random.default_rng(1)
    scores = torch.from_numpy(rng.normal(50, 20, 500)).float()
    is_id = torch.from_numpy(rng.random(500) < 0.3)
    metric = OODMetrics()
    for part, side in zip(scores.split(64), is_id.split(64), strict=True):
        metric.update(part, side)
    expected = ood_metrics(scores[is_id], scores[~is_id])
    assert {k: v.item() for k, v in metric.compute().items()} == pytest.approx(expected, abs=1e-6)
