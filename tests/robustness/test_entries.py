"""Entries of the leaderboard that an evaluation writes: the same images have the same digest however they come."""

import hashlib

import pytest
import torch

from aloe_lightning.data import ImageSet
from aloe_lightning.detectors import MSP
from aloe_lightning.evaluation.evaluate import EvaluationSettings
from aloe_lightning.evaluation.evaluate import evaluate as evaluate_cell
from aloe_lightning.nets import SmallNet
from aloe_lightning.report.leaderboard import ENTRY, Entry
from aloe_lightning.robustness import evaluate
from aloe_lightning.robustness.attack import attack_of
from aloe_lightning.robustness.command import result_of_cell


@pytest.fixture
def net():
    torch.manual_seed(0)
    return SmallNet(4, width=8).eval()


@pytest.fixture
def sets():
    draws = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (24, 3, 32, 32), generator=draws, dtype=torch.uint8)
    return ImageSet(pixels[:14], torch.arange(14) % 4), {"more": ImageSet(pixels[14:])}


def given(net, sets, **options):
    id_set, ood = sets
    id_data = (id_set.images.float() / 255, id_set.labels)
    ood_data = {name: images.images for name, images in ood.items()}
    return evaluate(net, id_data, ood_data, **{"preset": "quick", "verbose": False, **options})


def test_a_cell_and_a_given_net_have_comparable_entries(net, sets, tmp_path):
    result = given(net, sets, batch_size=5)
    attack = attack_of("quick", 1, "linf")
    evaluation = evaluate_cell(net, {"msp": MSP()}, *sets, attack, EvaluationSettings())
    cell = result_of_cell("a net", net, evaluation, {"msp": MSP()}, {"id": sets[0], **sets[1]}, attack, 1.0, 0)
    first, second = result.entry(), cell.entry()
    assert first.setting == second.setting
    assert first.weights == second.weights
    assert first.accuracy == second.accuracy
    assert first.counts == second.counts == {"id": 14, "more": 10}
    assert first.value("msp", "auroc", "none") == pytest.approx(second.value("msp", "auroc", "none"), abs=1e-9)
    assert first.value("msp", "auroc", "both") == pytest.approx(result.number("auroc"))
    for place in (result.save(tmp_path / "saved"), result.report(tmp_path / "report").parent):
        assert Entry.read(place / ENTRY) == Entry.read(first.write(tmp_path / "entry.json"))


def test_digests_are_of_pixels_and_labels_whatever_the_batches(net, sets):
    parts = [given(net, sets, batch_size=size).settings["data"] for size in (3, 14)]
    assert parts[0] == parts[1]
    sums = [hashlib.sha256(array.numpy().tobytes()) for array in (sets[0].images.float() / 255, sets[0].labels)]
    joined = "".join(digest.hexdigest() for digest in sums)
    assert parts[0]["id"] == hashlib.sha256(joined.encode()).hexdigest()
    changed = sets[0].images.clone()
    changed[3, 0, 0, 0] ^= 1
    other = given(net, (ImageSet(changed, sets[0].labels), sets[1])).settings["data"]
    assert other["id"] != parts[0]["id"]
    assert other["more"] == parts[0]["more"]
