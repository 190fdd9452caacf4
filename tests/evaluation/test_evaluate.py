from dataclasses import dataclass

import numpy as np
import pytest
import torch

from aloe_lightning.attacks import ConfidenceAttack
from aloe_lightning.data import ImageSet
from aloe_lightning.detectors import MSP, ODIN, Energy, FitData, Mahalanobis
from aloe_lightning.errors import UserError
from aloe_lightning.evaluation.evaluate import EvaluationSettings, evaluate
from aloe_lightning.losses import cross_entropy


def image_set(count, seed, labelled=False):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return ImageSet(images, torch.randint(10, (count,), generator=generator) if labelled else None)


SETS = {"noise": image_set(9, 2), "more": image_set(5, 3)}
DETECTORS = {"msp": MSP(), "odin": ODIN()}


def run(net, attack=None, **settings):
    attack = attack or ConfidenceAttack(epsilon=4, steps=3)
    return evaluate(net, DETECTORS, image_set(13, 1, True), SETS, attack, EvaluationSettings(**settings))


def flat(evaluation):
    sets = {"id": evaluation.id, **evaluation.ood}
    return {(n, d, s): v for n, e in sets.items() for d, states in e.scores.items() for s, v in states.items()}


def test_scores_are_those_of_detector_and_attack_called_by_hand(small_net):
    attack = ConfidenceAttack(epsilon=4, steps=3, random_start=False)
    found = run(small_net, attack)
    for name, images, side in (("id", image_set(13, 1), "id"), ("noise", SETS["noise"], "ood")):
        x = images.images.float() / 255
        adversarial = attack(small_net, x, side)
        with torch.no_grad():
            for key, detector in DETECTORS.items():
                score = detector.fit(small_net)
                np.testing.assert_allclose(flat(found)[name, key, "clean"], score(x), rtol=1e-5)
                np.testing.assert_allclose(flat(found)[name, key, "attacked"], score(adversarial), rtol=1e-5)


def test_accuracy_is_that_of_clean_images(small_net):
    known = image_set(13, 1, True)
    with torch.no_grad():
        right = small_net(known.images.float() / 255).argmax(1) == known.labels
    assert run(small_net).id.correct == pytest.approx(right.float().mean().item())
    assert run(small_net).ood["noise"].correct is None


def test_results_do_not_depend_on_batch_size_though_starts_are_random(small_net):
    whole, parts = flat(run(small_net, batch_size=100)), flat(run(small_net, batch_size=4))
    for key, scores in whole.items():
        np.testing.assert_allclose(scores, parts[key], rtol=2e-3, err_msg=str(key))


@dataclass(frozen=True, kw_only=True)
class CountingAttack(ConfidenceAttack):
    """Counts the images it is asked to attack."""

    seen: list

    def __call__(self, net, images, membership, start=None, loss=None):
        self.seen.extend([membership] * len(images))
        return super().__call__(net, images, membership, start, loss)


def test_each_image_is_attacked_once_for_all_detectors_and_sets(small_net):
    attack = CountingAttack(seen=[], steps=1)
    run(small_net, attack, batch_size=4)
    # In-distribution images once for the detectors, once for the classifier.
    assert (attack.seen.count("id"), attack.seen.count("ood")) == (13 + 13, 9 + 5)


def test_no_forward_pass_is_wasted(small_net):
    """One for each step of an attack; of what it is scored on one for the logits and one for ODIN's step."""
    passes = []
    small_net.register_forward_hook(lambda net, inputs, _: passes.append(len(inputs[0])))
    run(small_net, ConfidenceAttack(steps=3))
    # Clean and attacked; in-distribution images are attacked to be misclassified, too.
    assert sum(passes) == (9 + 5) * (2 + 3 + 2) + 13 * (2 + 3 + 2 + 3 + 2)


def test_the_net_is_left_as_it_was(small_net):
    small_net.train()
    before = {name: tensor.clone() for name, tensor in small_net.state_dict().items()}
    run(small_net)
    assert small_net.training
    assert all(p.requires_grad for p in small_net.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in small_net.state_dict().items())


def test_a_net_that_has_diverged_is_named(small_net):
    small_net.fc.weight.data.fill_(float("nan"))
    with pytest.raises(UserError, match="msp gives scores on id that are not finite"):
        run(small_net)


def share(rank, world, net, path, store):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.FileStore(store, world), rank=rank, world_size=world
    )
    found = run(net, batch_size=4)
    if rank == world - 1:
        np.savez(path, **{"/".join(key): scores for key, scores in flat(found).items()}, correct=found.id.correct)
    torch.distributed.destroy_process_group()


def test_three_processes_find_what_one_finds(small_net, tmp_path):
    expected = run(small_net)
    path = tmp_path / "scores.npz"
    torch.multiprocessing.start_processes(
        share, (3, small_net, path, str(tmp_path / "store")), nprocs=3, start_method="fork"
    )
    with np.load(path) as found:
        assert float(found["correct"]) == pytest.approx(expected.id.correct)
        for key, scores in flat(expected).items():
            assert found["/".join(key)].shape == scores.shape
            np.testing.assert_allclose(found["/".join(key)], scores, rtol=2e-3)


def test_parts_are_halved_until_the_memory_holds_them(small_net):
    class Hungry(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.sizes = small_net, []

        def forward(self, images):
            self.sizes.append(len(images))
            if len(images) > 3:
                raise torch.OutOfMemoryError("no room for so many")
            return self.net(images)

    hungry = Hungry().eval()
    found, expected = flat(run(hungry, batch_size=13)), flat(run(small_net))
    assert {13, 7, 4, 2} <= set(hungry.sizes)  # and from then on what fits, set by set
    for key, scores in expected.items():
        np.testing.assert_allclose(found[key], scores, rtol=2e-3)


def test_the_classifier_is_attacked_on_in_distribution_images_and_every_detector_scores_them(small_net):
    attack = ConfidenceAttack(epsilon=8, steps=3, random_start=False)
    found = run(small_net, attack)
    known = image_set(13, 1, True)
    x = known.images.float() / 255
    misled = attack(small_net, x, "id", loss=lambda images, _: cross_entropy(small_net(images), known.labels))
    with torch.no_grad():
        assert found.id.robust == pytest.approx((small_net(misled).argmax(1) == known.labels).float().mean().item())
        np.testing.assert_allclose(flat(found)["id", "msp", "misclassified"], MSP().fit(small_net)(misled), rtol=1e-5)
    assert ("noise", "msp", "misclassified") not in flat(found)
    without = run(small_net, attack, classifier=False)
    assert without.id.robust is None
    assert ("id", "msp", "misclassified") not in flat(without)


def test_detectors_with_a_loss_of_their_own_are_scored_on_images_of_their_own(small_net):
    learnt = FitData(inliers=image_set(60, 5, True), outliers=image_set(40, 6), num_classes=10)
    attack = ConfidenceAttack(epsilon=8, steps=3, random_start=False)
    detectors = {"msp": MSP(), "energy": Energy(), "mahalanobis": Mahalanobis(eta=0.0, images=30)}
    found = evaluate(small_net, detectors, image_set(13, 1), SETS, attack, EvaluationSettings(), data=learnt)
    x = SETS["noise"].images.float() / 255
    with torch.no_grad():
        for name, crafted in (("energy", "msp"), ("mahalanobis", "mahalanobis")):
            attacked = attack(small_net, x, "ood", loss=found.fitted[crafted].loss)
            expected = found.fitted[name](attacked)
            np.testing.assert_allclose(flat(found)["noise", name, "attacked"], expected, rtol=1e-4, atol=1e-6)


def test_each_detector_with_a_loss_of_its_own_is_attacked_by_it(small_net):
    """Whoever stands beside it: of two that call their attack the same, each has its own images."""
    data = FitData(inliers=image_set(90, 5, True), outliers=image_set(60, 6), num_classes=10)
    first, second = Mahalanobis(eta=0.0, images=20), Mahalanobis(eta=0.0, images=60)
    attack = ConfidenceAttack(epsilon=4, steps=3)

    def scores(**detectors):
        settings = EvaluationSettings(classifier=False)
        found = evaluate(small_net, detectors, image_set(13, 1, True), SETS, attack, settings, data=data)
        return flat(found)["id", "first", "attacked"]

    np.testing.assert_array_equal(scores(first=first, second=second), scores(first=first))
