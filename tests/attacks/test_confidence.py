import pytest
import torch

from aloe_lightning.attacks import ConfidenceAttack
from aloe_lightning.detectors import MSP, ODIN


@pytest.mark.parametrize("epsilon", [1, 2, 4])
@pytest.mark.parametrize("side", ["id", "ood"])
def test_algorithm_1_equals_the_authors(golden_net, golden_images, reference, epsilon, side):
    attack = ConfidenceAttack(epsilon=epsilon, random_start=epsilon == 1, rounding="truncate")
    count = 40 if epsilon == 1 else 20  # time; an image's attack knows nothing of the others
    x = golden_images[side][:count]
    adversarial = attack(golden_net, x, side)
    same = ((adversarial - x) * 255).round().numpy() == reference[f"{side}_conf_eps{epsilon}_delta255"][:count]
    assert same.mean() >= 0.99
    # Another processor adds in another order: where a gradient is all but zero, its sign, hence a pixel, may turn.
    alike = same.reshape(count, -1).all(1)
    assert alike.mean() >= 0.9
    with torch.no_grad():
        for name, detector in (("msp", MSP()), ("odin", ODIN())):
            expected = torch.from_numpy(reference[f"{side}_conf_eps{epsilon}_{name}"][:count]).double()
            found = detector.fit(golden_net)(adversarial)
            torch.testing.assert_close(found[alike], expected[alike], atol=1e-5, rtol=0)
            torch.testing.assert_close(found, expected, atol=1e-2, rtol=0)


@pytest.mark.parametrize(("side", "direction"), [("id", -1), ("ood", 1)])
def test_the_score_moves_to_the_wrong_side(small_net, images, side, direction):
    score = MSP().fit(small_net)
    adversarial = ConfidenceAttack(epsilon=8)(small_net, images, side)
    assert (direction * (score(adversarial) - score(images)) > 0).all()


def test_a_given_start_makes_it_repeatable_and_no_start_means_the_image(small_net, images):
    start = torch.rand(images.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    attack = ConfidenceAttack(epsilon=4, steps=0)
    torch.testing.assert_close(attack(small_net, images, "id", start), (images + start * 4 / 255).clamp(0, 1))
    unmoved = ConfidenceAttack(epsilon=4, steps=0, random_start=False)
    assert torch.equal(unmoved(small_net, images, "id", start), images)
