"""An evaluation that was interrupted continues with the next batch, to the same scores."""

import numpy as np
import pytest
import torch
from torch import nn

from aloe_lightning.attacks import PGD, Strong
from aloe_lightning.data import ImageSet
from aloe_lightning.detectors import MSP, ODIN
from aloe_lightning.evaluation.batch_scorer import BatchScorer
from aloe_lightning.evaluation.evaluate import EvaluationSettings, evaluate
from aloe_lightning.runtime.seeding import generator
from aloe_lightning.storage.batches import BatchStore

SETTINGS = EvaluationSettings(batch_size=4)


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def inputs():
    torch.manual_seed(0)
    images = torch.randint(256, (19, 3, 32, 32), dtype=torch.uint8, generator=generator(0))
    net = nn.Sequential(nn.Conv2d(3, 8, 8, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 49, 3)).eval()
    return (
        net,
        {"msp": MSP(), "odin": ODIN()},
        ImageSet(images[:10], torch.arange(10) % 3),
        {"a/b": ImageSet(images[10:])},
    )


def scored_batches(monkeypatch, until=None):
    """Record the batches that are scored; end the process before the one of number `until`."""
    batches, score = [], BatchScorer.__call__

    def recording(self, dataset, indices):
        if len(batches) == until:
            raise Killed
        batches.append((dataset.name, indices.tolist()))
        return score(self, dataset, indices)

    monkeypatch.setattr(BatchScorer, "__call__", recording)
    return batches


ATTACKS = {
    "paper": PGD(epsilon=2, steps=2),
    "quick": Strong(epsilon=2, preset="quick", steps=2),
    "checked": Strong(epsilon=2, members=["square"], steps=4, queries=2, epsilon_checks=6),  # 2 of the second batch
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=list(ATTACKS))
def test_a_killed_evaluation_continues_to_the_same_scores(inputs, tmp_path, monkeypatch, attack):
    whole = evaluate(*inputs, attack, SETTINGS)
    with monkeypatch.context() as patch:
        first = scored_batches(patch, until=4)
        with pytest.raises(Killed):
            evaluate(*inputs, attack, SETTINGS, store=BatchStore(tmp_path, {}))
    second = scored_batches(monkeypatch)
    resumed = evaluate(*inputs, attack, SETTINGS, store=BatchStore(tmp_path, {}))
    assert first == [("id", [0, 1, 2, 3]), ("id", [4, 5, 6, 7]), ("id", [8, 9]), ("a/b", [0, 1, 2, 3])]
    assert second == [("a/b", [4, 5, 6, 7]), ("a/b", [8])]
    assert dict(resumed.scores).keys() == dict(whole.scores).keys()
    for key, values in whole.scores.items():
        np.testing.assert_array_equal(resumed.scores[key], values)
    assert (resumed.accuracy, resumed.robust_accuracy) == (whole.accuracy, whole.robust_accuracy)
    assert resumed.ensemble.arrays.keys() == whole.ensemble.arrays.keys()
    for key, values in whole.ensemble.arrays.items():
        np.testing.assert_array_equal(resumed.ensemble.arrays[key], values)
    assert resumed.examples.keys() == whole.examples.keys() == {(d, s) for d in ("msp", "odin") for s in ("id", "ood")}
    for key, images in whole.examples.items():
        np.testing.assert_array_equal(resumed.examples[key].position, images.position)
        np.testing.assert_array_equal(resumed.examples[key].attacked, images.attacked)


def test_other_images_labels_or_settings_are_scored_anew(inputs, tmp_path, monkeypatch):
    net, detectors, id_set, ood_sets = inputs
    attack = PGD(epsilon=1, steps=1)
    evaluate(*inputs, attack, SETTINGS, store=BatchStore(tmp_path, {"weights": "a"}))
    batches = scored_batches(monkeypatch)
    evaluate(*inputs, attack, SETTINGS, store=BatchStore(tmp_path, {"weights": "a"}))
    assert batches == []
    changed = ImageSet(id_set.images, (id_set.labels + 1) % 3)
    evaluate(net, detectors, changed, ood_sets, attack, SETTINGS, store=BatchStore(tmp_path, {"weights": "a"}))
    assert [name for name, _ in batches] == ["id"] * 3
    pixels = id_set.images.clone()
    pixels[5, 0, 0, 0] ^= 1
    evaluate(
        net,
        detectors,
        ImageSet(pixels, id_set.labels),
        {},
        attack,
        SETTINGS,
        store=BatchStore(tmp_path, {"weights": "a"}),
    )
    assert batches[3:] == [("id", [4, 5, 6, 7])]
    evaluate(*inputs, attack, SETTINGS, store=BatchStore(tmp_path, {"weights": "b"}))
    assert len(batches) == 4 + 6


def test_a_damaged_batch_is_scored_again_and_discarding_leaves_nothing(inputs, tmp_path, monkeypatch):
    attack, store = PGD(epsilon=1, steps=1), BatchStore(tmp_path, {})
    whole = evaluate(*inputs, attack, SETTINGS, store=store)
    damaged = sorted(tmp_path.rglob("*.npz"))[1]
    damaged.write_bytes(damaged.read_bytes()[:100])
    batches = scored_batches(monkeypatch)
    again = evaluate(*inputs, attack, SETTINGS, store=store)
    assert len(batches) == 1
    for key, values in whole.scores.items():
        np.testing.assert_array_equal(again.scores[key], values)
    store.discard()
    assert list(tmp_path.iterdir()) == []
