import pytest
import torch

from aloe_lightning.attacks import PGD, algorithm_1, frozen_eval
from aloe_lightning.detectors import MSP, ODIN


@pytest.mark.parametrize("epsilon", [1, *(pytest.param(e, marks=pytest.mark.slow) for e in (2, 4))])
@pytest.mark.parametrize("side", ["id", "ood"])
def test_algorithm_1_equals_the_authors(
    golden_net, golden_images, reference, epsilon, side, same_processor, pixel_agreement
):
    attack = PGD(epsilon=epsilon, steps=10, random_start=epsilon == 1, rounding="truncate")
    x = golden_images[side]
    with frozen_eval(golden_net):
        adversarial = attack(x, algorithm_1(golden_net, side))
    same = ((adversarial - x) * 255).round().numpy() == reference[f"{side}_conf_eps{epsilon}_delta255"]
    assert same.mean() >= pixel_agreement
    # Another processor adds in another order: the sign of a gradient near zero, hence a pixel, may change.
    alike = same.reshape(len(x), -1).all(1)
    assert alike.mean() >= (0.9 if same_processor else 0)
    with torch.no_grad():
        for name, detector in (("msp", MSP()), ("odin", ODIN())):
            expected = torch.from_numpy(reference[f"{side}_conf_eps{epsilon}_{name}"]).double()
            scores = detector.fit(golden_net)(adversarial)
            torch.testing.assert_close(scores[alike], expected[alike], atol=1e-5, rtol=0)
            if same_processor:
                torch.testing.assert_close(scores, expected, atol=1e-2, rtol=0)
            torch.testing.assert_close(scores.mean(), expected.mean(), atol=0.05, rtol=0)


@pytest.mark.parametrize(("side", "direction"), [("id", -1), ("ood", 1)])
def test_the_score_moves_to_the_wrong_side(small_net, images, side, direction):
    score = MSP().fit(small_net)
    adversarial = PGD(epsilon=8, steps=10)(images, algorithm_1(small_net, side))
    assert (direction * (score(adversarial) - score(images)) > 0).all()
