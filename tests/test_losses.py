import math

import pytest
import torch

from aloe_lightning.losses import cross_entropy, entropy, uniform_cross_entropy


def slow(logits):
    """Softmax by plain arithmetic, in Python floats."""
    rows = []
    for z in logits.tolist():
        top = max(z)
        exps = [math.exp(v - top) for v in z]
        rows.append([e / sum(exps) for e in exps])
    return rows


@pytest.fixture
def logits():
    return torch.randn(5, 7, generator=torch.Generator().manual_seed(0)) * 3


def test_each_loss_equals_its_definition_sample_by_sample(logits):
    probabilities = slow(logits)
    labels = torch.tensor([0, 6, 3, 3, 1])
    expected = {
        "ce": [-math.log(p[y]) for p, y in zip(probabilities, labels.tolist(), strict=True)],
        "uniform": [-sum(math.log(v) for v in p) / 7 for p in probabilities],
        "entropy": [-sum(v * math.log(v) for v in p) for p in probabilities],
    }
    torch.testing.assert_close(cross_entropy(logits, labels), torch.tensor(expected["ce"]))
    torch.testing.assert_close(uniform_cross_entropy(logits), torch.tensor(expected["uniform"]))
    torch.testing.assert_close(entropy(logits), torch.tensor(expected["entropy"]))


def test_extremes_at_a_uniform_softmax():
    flat = torch.full((2, 10), 4.0)
    torch.testing.assert_close(uniform_cross_entropy(flat), torch.full((2,), math.log(10)))
    torch.testing.assert_close(entropy(flat), torch.full((2,), math.log(10)))


def test_saturated_logits_stay_finite_in_value_and_gradient():
    logits = torch.tensor([[300.0, -300.0, 0.0]], requires_grad=True)
    for loss in (entropy, uniform_cross_entropy):
        (gradient,) = torch.autograd.grad(loss(logits).sum(), logits)
        assert torch.isfinite(gradient).all()
    torch.testing.assert_close(uniform_cross_entropy(logits), torch.tensor([300.0]))


@pytest.mark.parametrize("loss", [entropy, uniform_cross_entropy])
def test_losses_are_float32_under_bfloat16_logits(loss):
    assert loss(torch.randn(3, 4).bfloat16()).dtype == torch.float32
