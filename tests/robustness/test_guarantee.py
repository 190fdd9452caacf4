"""GAUROC: from bounds of every image, never above the attacked AUROC, and said to be vacuous where it is."""

import numpy as np
import pytest
import torch
from torch import nn

from aloe_lightning.attacks import Strong
from aloe_lightning.metrics import auroc
from aloe_lightning.nets import ConfidenceBounds, SmallNet
from aloe_lightning.robustness import Result, evaluate

EPSILON = 0.1


@pytest.fixture
def sets():
    draws = torch.Generator().manual_seed(0)
    pixels = torch.rand(24, 3, 32, 32, generator=draws)
    return pixels, {
        "dark": torch.rand(16, 3, 32, 32, generator=draws) / 2,
        "flat": torch.rand(9, 3, 1, 1).expand(-1, -1, 32, 32),
    }


@pytest.fixture
def shallow():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)).eval()


def test_gauroc_is_the_auroc_of_the_bounds_and_a_floor_of_the_attacked_one(sets, shallow, tmp_path):
    attack = Strong(epsilon=EPSILON, steps=4, members=["momentum"], epsilon_checks=0)
    result = evaluate(shallow, *sets, detectors=("msp", "odin"), attack=attack, batch_size=7, verbose=False)
    bounds = ConfidenceBounds(shallow)
    low = bounds(sets[0], EPSILON / 255)[0]
    clean = result.scores["msp", "id", "clean"]
    expected = []
    for name, images in sets[1].items():
        high = bounds(images, EPSILON / 255)[1]
        for side, id_scores, ood in (
            ("id", low, result.scores["msp", name, "clean"]), ("ood", clean, high), ("both", low, high)
        ):  # fmt: skip
            value = result.number("gauroc", ood=name, side=side)
            assert value == pytest.approx(auroc(np.asarray(id_scores), np.asarray(ood)), abs=1e-9)
            assert 0 < value <= result.number("auroc", ood=name, side=side)
        expected.append(auroc(low.numpy(), high.numpy()))
    assert result.number("gauroc", ood="mean of the sets") == pytest.approx(np.mean(expected))
    assert "odin" not in set(result.numbers[result.numbers.metric == "gauroc"].detector)
    assert not any("vacuous" in note for note in result.notes)
    headings = [heading for side, heading in result.table().columns if side == "both attacked"]
    assert headings[-1] == "GAUROC"
    assert ("clean", "GAUROC") not in result.table().columns
    assert "GAUROC" in result.report(tmp_path).read_text()
    again = Result.load(result.save(tmp_path / "saved"))
    assert again.numbers.equals(result.numbers)


def test_a_bound_of_a_deep_net_at_a_large_epsilon_is_said_to_be_vacuous(sets):
    torch.manual_seed(0)
    options = {"preset": "paper", "eps": 8, "verbose": False}
    result = evaluate(SmallNet(10, width=8), *sets, **options)
    assert result.number("gauroc") == pytest.approx(0, abs=0.005)
    assert sum("the guaranteed bound of msp is vacuous" in note for note in result.notes) == 1


def test_there_is_no_column_without_a_bound(sets, shallow):
    l2 = evaluate(shallow, *sets, norm="l2", eps=64, preset="quick", verbose=False)
    smooth = evaluate(nn.Sequential(shallow, nn.GELU()), *sets, preset="paper", verbose=False)
    score = evaluate(lambda x: shallow(x).amax(1), *sets, preset="paper", verbose=False)
    for result in (l2, smooth, score):
        assert "gauroc" not in set(result.numbers.metric)
        assert "GAUROC" not in {heading for _, heading in result.table().columns}
