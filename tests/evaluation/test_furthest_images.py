"""Examples: the images that the attack moved furthest across the threshold are those that the evaluation scored."""

import numpy as np
import pytest
import torch

from aloe_lightning.attacks import PGD, Strong
from aloe_lightning.data import ImageSet
from aloe_lightning.detectors import MSP, ODIN
from aloe_lightning.evaluation.evaluate import EvaluationSettings, evaluate
from aloe_lightning.evaluation.examples import FILE, furthest, load_examples, save_examples
from aloe_lightning.metrics import threshold_at_tpr
from aloe_lightning.nets import SmallNet
from aloe_lightning.runtime.seeding import generator

DETECTORS = {"msp": MSP(), "odin": ODIN()}
PIXELS = torch.randint(256, (53, 3, 32, 32), dtype=torch.uint8, generator=generator(0))
ID_SET = ImageSet(PIXELS[:30], torch.arange(30) % 3)
OOD_SETS = {"a": ImageSet(PIXELS[30:43]), "b": ImageSet(PIXELS[43:])}
ATTACKS = [PGD(epsilon=3, steps=3), Strong(epsilon=3, preset="quick", steps=2)]


@pytest.fixture
def net():
    torch.manual_seed(0)
    return SmallNet(3, width=8).eval()


def by_hand(clean, attacked, threshold, side):
    """Places in order: crossed first, then by distance; images that moved to their own side are left out."""
    places = []
    for place, (before, after) in enumerate(zip(clean, attacked, strict=True)):
        moved = before - after if side == "id" else after - before
        crossed = before > threshold >= after if side == "id" else after > threshold >= before
        if moved > 0:
            places.append((not crossed, -moved, place))
    return [place for *_, place in sorted(places)]


@pytest.mark.parametrize("side", ["id", "ood"])
def test_those_that_crossed_come_first_then_those_that_moved_further(side):
    rng = np.random.default_rng(0)
    clean, attacked = rng.integers(0, 9, (2, 60)).astype(float)  # with ties, and scores at the threshold
    assert furthest(clean, attacked, 4.0, side).tolist() == by_hand(clean, attacked, 4.0, side)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: type(attack).__name__)
def test_the_images_kept_are_those_that_the_scores_say_and_give_their_scores(net, attack):
    settings = EvaluationSettings(batch_size=30, classifier=False, examples=4)
    result = evaluate(net, DETECTORS, ID_SET, OOD_SETS, attack, settings)
    assert result.examples.keys() == {(name, side) for name in DETECTORS for side in ("id", "ood")}
    for (name, side), images in result.examples.items():
        sets = {"id": ID_SET} if side == "id" else OOD_SETS
        clean, attacked = (
            np.concatenate([result.scores[name, dataset, condition] for dataset in sets])
            for condition in ("clean", "attacked")
        )
        threshold = threshold_at_tpr(result.scores[name, "id", "clean"])
        expected = by_hand(clean, attacked, threshold, side)[:4]
        places = [(dataset, place) for dataset, images in sets.items() for place in range(len(images))]
        assert list(zip(images.dataset, images.position, strict=True)) == [places[k] for k in expected]
        assert images.clean_score.tolist() == clean[expected].tolist()
        assert images.attacked_score.tolist() == attacked[expected].tolist()
        assert set(images.threshold) == {threshold}
        for dataset, place, pixels in zip(images.dataset, images.position, images.clean, strict=True):
            np.testing.assert_array_equal(pixels, sets[dataset].images[place])
        assert np.abs(images.attacked - images.clean / np.float32(255)).max() <= 3 / 255 + 1e-6
        with torch.no_grad():
            again = DETECTORS[name].fit(net)(torch.from_numpy(images.attacked))
        np.testing.assert_allclose(again, images.attacked_score, rtol=1e-5)


def test_batches_of_any_size_keep_the_same_ood_images(net):
    attack = PGD(epsilon=3, steps=3)
    whole, parts = (
        evaluate(
            net, DETECTORS, ID_SET, OOD_SETS, attack, EvaluationSettings(batch_size=size, classifier=False)
        ).examples["odin", "ood"]
        for size in (30, 4)
    )
    assert len(whole) == 3
    assert parts.dataset.tolist() == whole.dataset.tolist()
    assert parts.position.tolist() == whole.position.tolist()
    np.testing.assert_allclose(parts.attacked, whole.attacked, atol=1e-5)


def test_examples_are_read_back_and_a_run_may_have_none(net, tmp_path):
    settings = EvaluationSettings(classifier=False)
    examples = evaluate(net, DETECTORS, ID_SET, OOD_SETS, ATTACKS[0], settings).examples
    save_examples(examples, tmp_path)
    read = load_examples(tmp_path)
    assert read.keys() == examples.keys()
    for key, images in examples.items():
        for name, values in images.arrays().items():
            np.testing.assert_array_equal(read[key].arrays()[name], values)
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:500])
    assert load_examples(tmp_path) == {}
    none = EvaluationSettings(classifier=False, examples=0)
    save_examples(evaluate(net, DETECTORS, ID_SET, OOD_SETS, ATTACKS[0], none).examples, tmp_path)
    assert not (tmp_path / FILE).exists()
