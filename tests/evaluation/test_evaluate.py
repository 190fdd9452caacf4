import numpy as np
import pytest
import torch

from aloe_lightning.attacks import PGD, algorithm_1, frozen_eval
from aloe_lightning.data import ImageSet
from aloe_lightning.detectors import MSP, ODIN, Detector, Energy, FitData, Fitted, Mahalanobis
from aloe_lightning.errors import UserError
from aloe_lightning.evaluation.evaluate import EvaluationSettings, evaluate
from aloe_lightning.evaluation.records import Cell, records_of
from aloe_lightning.evaluation.scores import Scores
from aloe_lightning.losses import cross_entropy


def image_set(count, seed, labelled=False):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return ImageSet(images, torch.randint(10, (count,), generator=generator) if labelled else None)


SETS = {"noise": image_set(9, 2), "more": image_set(5, 3)}
DETECTORS = {"msp": MSP(), "odin": ODIN()}


def run(net, attack=None, **settings):
    attack = attack or PGD(epsilon=4, steps=3)
    return evaluate(net, DETECTORS, image_set(13, 1, True), SETS, attack, EvaluationSettings(**settings))


def test_scores_are_those_of_detector_and_attack_called_by_hand(small_net):
    attack = PGD(epsilon=4, steps=3, random_start=False)
    scores = run(small_net, attack).scores
    for name, images, side in (("id", image_set(13, 1), "id"), ("noise", SETS["noise"], "ood")):
        x = images.images.float() / 255
        adversarial = attack(x, algorithm_1(small_net, side))
        with torch.no_grad():
            for key, detector in DETECTORS.items():
                score = detector.fit(small_net)
                np.testing.assert_allclose(scores[key, name, "clean"], score(x), rtol=1e-5)
                np.testing.assert_allclose(scores[key, name, "attacked"], score(adversarial), rtol=1e-5)


def test_accuracy_is_that_of_clean_images(small_net):
    id_set = image_set(13, 1, True)
    with torch.no_grad():
        right = small_net(id_set.images.float() / 255).argmax(1) == id_set.labels
    assert run(small_net).accuracy == pytest.approx(right.float().mean().item())
    unlabelled = evaluate(small_net, {"msp": MSP()}, image_set(13, 1), {}, PGD(), EvaluationSettings())
    assert (unlabelled.accuracy, unlabelled.robust_accuracy) == (None, None)


def test_results_do_not_depend_on_batch_size_though_starts_are_random(small_net):
    whole, parts = run(small_net, batch_size=100).scores, run(small_net, batch_size=4).scores
    for key, scores in whole.items():
        np.testing.assert_allclose(scores, parts[key], rtol=2e-3, err_msg=str(key))


class CountingAttack:
    """Counts the images that it attacks; an attack from outside: a plain class."""

    epsilon = 1.0

    def __init__(self):
        self.counts = []

    def describe(self):
        return "counting"

    def __call__(self, images, loss, *, start=None, generator=None):
        self.counts.append(len(images))
        return PGD(epsilon=1, steps=1)(images, loss, start=start)


def test_each_image_is_attacked_once_for_all_detectors_and_sets(small_net):
    attack = CountingAttack()
    run(small_net, attack, batch_size=100)
    # In-distribution images once for the detectors, once for the classifier.
    assert attack.counts == [13, 13, 9, 5]


@pytest.mark.parametrize("names", [("msp", "odin"), ("odin", "msp")])
def test_no_forward_pass_is_wasted(small_net, names):
    """One for each step of an attack; of the attacked images one for the logits and one for ODIN's step."""
    passes = []
    small_net.register_forward_hook(lambda net, inputs, _: passes.append(len(inputs[0])))
    detectors = {name: DETECTORS[name] for name in names}
    evaluate(small_net, detectors, image_set(13, 1, True), SETS, PGD(steps=3), EvaluationSettings())
    # Clean and attacked; in-distribution images are attacked to be misclassified, too.
    assert sum(passes) == (9 + 5) * (2 + 3 + 2) + 13 * (2 + 3 + 2 + 3 + 2)


def test_no_gradient_is_computed_that_no_detector_needs(small_net):
    passes = []
    small_net.register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    evaluate(small_net, {"msp": MSP()}, image_set(13, 1, True), SETS, PGD(steps=3), EvaluationSettings())
    assert passes.count(True) == 3 * 4, "the steps of the attacks"
    assert passes.count(False) == 3 + 2 + 2, "scores under each condition"


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


def evaluate_a_share(rank, world_size, net, folder):
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(str(folder / "store"), world_size)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=world_size)
    evaluation = run(net, batch_size=4)
    if rank == world_size - 1:
        evaluation.scores.save(folder / "scores.npz")
        (folder / "accuracy").write_text(str(evaluation.accuracy))
    torch.distributed.destroy_process_group()


def test_three_processes_find_what_one_finds(small_net, tmp_path):
    expected = run(small_net)
    torch.multiprocessing.start_processes(evaluate_a_share, (3, small_net, tmp_path), nprocs=3, start_method="fork")
    scores = Scores.load(tmp_path / "scores.npz")
    assert float((tmp_path / "accuracy").read_text()) == pytest.approx(expected.accuracy)
    assert list(scores) == list(expected.scores)
    for key, values in expected.scores.items():
        assert scores[key].shape == values.shape
        np.testing.assert_allclose(scores[key], values, rtol=2e-3)


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
    scores, expected = run(hungry, batch_size=13).scores, run(small_net).scores
    assert {13, 7, 4, 2} <= set(hungry.sizes)  # and from then on the size that fits, set by set
    for key, values in expected.items():
        np.testing.assert_allclose(scores[key], values, rtol=2e-3)


def test_the_classifier_is_attacked_on_in_distribution_images_and_every_detector_scores_them(small_net):
    attack = PGD(epsilon=8, steps=3, random_start=False)
    evaluation = run(small_net, attack)
    id_set = image_set(13, 1, True)
    adversarial = attack(id_set.images.float() / 255, lambda x: cross_entropy(small_net(x), id_set.labels))
    with torch.no_grad():
        robust = (small_net(adversarial).argmax(1) == id_set.labels).float().mean().item()
        expected = MSP().fit(small_net)(adversarial)
    assert evaluation.robust_accuracy == pytest.approx(robust)
    np.testing.assert_allclose(evaluation.scores["msp", "id", "misclassified"], expected, rtol=1e-5)
    assert ("msp", "noise", "misclassified") not in evaluation.scores
    without = run(small_net, attack, classifier=False)
    assert without.robust_accuracy is None
    assert ("msp", "id", "misclassified") not in without.scores


FIT_DATA = FitData(inliers=lambda: image_set(90, 5, True), outliers=lambda: image_set(60, 6), num_classes=10)


def test_detectors_with_a_loss_of_their_own_are_scored_on_images_of_their_own(small_net):
    attack = PGD(epsilon=8, steps=3, random_start=False)
    detectors = {"msp": MSP(), "energy": Energy(), "mahalanobis": Mahalanobis(eta=0.0, images=30)}
    settings = EvaluationSettings()
    evaluation = evaluate(small_net, detectors, image_set(13, 1), SETS, attack, settings, data=FIT_DATA)
    x = SETS["noise"].images.float() / 255
    for name, attacked_detector in (("energy", "msp"), ("mahalanobis", "mahalanobis")):
        with frozen_eval(small_net), torch.no_grad():
            attacked = attack(x, evaluation.fitted[attacked_detector].loss("ood"))
            expected = evaluation.fitted[name](attacked)
        np.testing.assert_allclose(evaluation.scores[name, "noise", "attacked"], expected, rtol=1e-4, atol=1e-6)


def test_each_detector_with_a_loss_of_its_own_is_attacked_by_it(small_net):
    """Whatever other detectors there are: of two of one class, each has its own attacked images."""
    first, second = Mahalanobis(eta=0.0, images=20), Mahalanobis(eta=0.0, images=60)
    attack, settings = PGD(epsilon=4, steps=3), EvaluationSettings(classifier=False)

    def scores(**detectors):
        evaluation = evaluate(small_net, detectors, image_set(13, 1), SETS, attack, settings, data=FIT_DATA)
        return evaluation.scores["first", "id", "attacked"]

    np.testing.assert_array_equal(scores(first=first, second=second), scores(first=first))


class Margin(Detector):
    """A detector from outside: the difference of the two largest logits, attacked through itself."""

    def fit(self, net, data=None):
        def margin(logits):
            top = logits.double().topk(2, dim=1).values
            return top[:, 0] - top[:, 1]

        def loss(membership):
            sign = -1 if membership == "id" else 1
            return lambda images: sign * margin(net(images))

        return Fitted(net=net, score=lambda batch: margin(batch.logits), loss=loss)


def test_an_attack_and_a_detector_from_outside_go_through_to_the_records(small_net):
    attack, detectors = CountingAttack(), {"margin": Margin(), "msp": MSP()}
    evaluation = evaluate(small_net, detectors, image_set(13, 1, True), SETS, attack, EvaluationSettings())
    assert attack.counts == [13, 13, 13, 9, 9, 5, 5]
    for dataset, sign in (("id", -1), ("noise", 1)):
        clean, attacked = (evaluation.scores["margin", dataset, condition] for condition in ("clean", "attacked"))
        assert (sign * (attacked - clean)).mean() > 0
    cell = Cell(
        dataset="d", outliers="", net="small", objective="o", objective_title="O", seed=0, train_epsilon=None,
        eval_epsilon=attack.epsilon, regime="r", attack=attack.describe(), protocol="p",
    )  # fmt: skip
    records = records_of(evaluation, cell, titles={name: detector.title for name, detector in detectors.items()})
    assert {(record.detector, record.detector_title) for record in records} == {
        ("margin", "Margin"),
        ("msp", "MSP"),
        ("", ""),
    }
    assert {record.attack for record in records} == {"counting"}


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"max_id": -1}, {"max_ood": 0.5}, {"bf16": 3}])
def test_settings_out_of_range_are_named(wrong):
    with pytest.raises(UserError, match=f"EvaluationSettings: {next(iter(wrong))}: "):
        EvaluationSettings(**wrong)
