"""Evaluation by an attack on the detectors' own scores."""

import numpy as np
import pytest
import torch
from torch import nn

from aloe_lightning.attacks import PGD, ImageSeeds, Strong, frozen_eval
from aloe_lightning.data import ImageSet
from aloe_lightning.detectors import MSP, ODIN
from aloe_lightning.evaluation.batch_scorer import EvaluationSet
from aloe_lightning.evaluation.ensemble import Ensemble, EnsembleKey
from aloe_lightning.evaluation.evaluate import EvaluationSettings, evaluate
from aloe_lightning.evaluation.records import Cell, records_of
from aloe_lightning.metrics import auroc

DETECTORS = {"msp": MSP(), "odin": ODIN()}
ATTACK = Strong(epsilon=4, steps=3, queries=2, epsilon_checks=3)
CELL = Cell(
    dataset="noise", outliers="", net="small", objective="original", objective_title="Original", seed=0,
    train_epsilon=None, eval_epsilon=4, regime="strong", attack=ATTACK.describe(), protocol="",
)  # fmt: skip


@pytest.fixture(scope="module")
def small_net():
    """A net of one hidden layer: the attacks take some thousand passes."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 8, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 49, 10)
    return nn.Sequential(*layers).eval()


def image_set(count, seed, labelled=False):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return ImageSet(images, torch.randint(10, (count,), generator=generator) if labelled else None)


OOD = image_set(4, 2)


def run(net, attack=ATTACK, **settings):
    return evaluate(net, DETECTORS, image_set(6, 1, True), {"more": OOD}, attack, EvaluationSettings(**settings))


@pytest.fixture(scope="module")
def evaluation(small_net):
    return run(small_net)


def test_scores_are_those_of_the_attack_called_by_hand(small_net, evaluation):
    x = OOD.images.float() / 255
    noise = EvaluationSet.with_seeded_noise("more", "ood", OOD, 0).initial_noise
    with frozen_eval(small_net):
        targets = {name: detector.fit(small_net).target("ood") for name, detector in DETECTORS.items()}
        worst = ATTACK.attack_scores(x, targets, start=noise, seeds=ImageSeeds((0, "more"), range(len(x))))
    for name, case in worst.items():
        np.testing.assert_allclose(evaluation.scores[name, "more", "attacked"], case.score, rtol=1e-5)
        for member, scores in evaluation.ensemble.members(name, "more").items():
            np.testing.assert_allclose(scores, case.candidates[member], rtol=1e-4)


def test_it_is_never_weaker_than_the_paper_regime_and_clean_scores_are_equal(small_net, evaluation):
    paper = run(small_net, PGD(epsilon=4, steps=10))
    for name in DETECTORS:
        for dataset, sign in (("id", -1), ("more", 1)):
            strong, weak = (e.scores[name, dataset, "attacked"] for e in (evaluation, paper))
            assert (sign * strong >= sign * weak - 1e-6 * abs(weak)).all()
            np.testing.assert_array_equal(
                evaluation.scores[name, dataset, "clean"], paper.scores[name, dataset, "clean"]
            )
    assert evaluation.robust_accuracy <= paper.robust_accuracy


def test_results_do_not_depend_on_batch_size(small_net, evaluation):
    parts = run(small_net, batch_size=3)
    for key, scores in evaluation.scores.items():
        np.testing.assert_allclose(scores, parts.scores[key], rtol=2e-3, err_msg=str(key))
    assert evaluation.ensemble.arrays.keys() == parts.ensemble.arrays.keys()


def test_an_l2_ball(small_net):
    scores = run(small_net, Strong(epsilon=128, norm="l2", steps=3, queries=4, epsilon_checks=0)).scores
    for name in DETECTORS:
        assert (scores[name, "id", "attacked"] < scores[name, "id", "clean"]).all()
        assert (scores[name, "more", "attacked"] > scores[name, "more", "clean"]).all()


def test_gains_add_up_to_the_whole_loss_of_auroc(evaluation):
    for name in DETECTORS:
        gains = evaluation.ensemble.gains(name, "more")
        clean, attacked = (
            auroc(evaluation.scores[name, "id", c], evaluation.scores[name, "more", c]) for c in ("clean", "attacked")
        )
        assert sum(gain.auroc for gain in gains) == pytest.approx(clean - attacked)
        assert sum(gain.images for gain in gains) == len(OOD)
        change = evaluation.scores[name, "more", "attacked"] - evaluation.scores[name, "more", "clean"]
        assert sum(gain.score for gain in gains) == pytest.approx(change.mean())


def test_gains_of_known_scores():
    def arrays(dataset, **members):
        return {
            EnsembleKey("msp", dataset, "member", name): np.array(values, dtype=float)
            for name, values in members.items()
        }

    ensemble = Ensemble(
        {
            **arrays("id", clean=[4, 4], paper=[3, 5], score=[2, 4]),
            **arrays("more", clean=[1, 1], paper=[1, 1], classes=[3, 0], score=[3, 1]),
        }
    )
    gains = {g.member: (g.images, g.score, g.auroc) for g in ensemble.gains("msp", "more")}
    # AUROC: clean 1; paper 1 (3, 4 against 1, 1); classes 7/8 (3 ties with 3); score 3/4 (2 is below 3).
    assert gains == {"clean": (1, 0, 0), "paper": (0, 0, 0), "classes": (1, 1, 0.125), "score": (0, 0, 0.125)}
    assert [g.images for g in ensemble.gains("msp", "more", "id")] == [1, 0, 0, 1]
    assert Ensemble().gains("msp", "more") == []


def test_records_state_each_members_part_and_the_flags(evaluation):
    records = {(r.detector, r.side, r.ood, r.metric): r.value for r in records_of(evaluation, CELL)}
    gains = {g.member: g for g in evaluation.ensemble.gains("msp", "more")}
    for member, gain in gains.items():
        assert records["msp", "both", "more", f"gain/{member}"] == gain.auroc
        assert records["msp", "ood", "more", f"worst/{member}"] == gain.images / len(OOD)
    assert records["msp", "id", "", "flag/zero_gradient"] == 0
    assert records["msp", "id", "", "flag/surrogate_only"] == 0
    assert records["msp", "id", "", "flag/random_score"] == 0
    beyond = {name: evaluation.ensemble.arrays["msp", "more", "beyond", name] for name in ("doubled", "unlimited")}
    attacked, median = evaluation.scores["msp", "more", "attacked"], np.median(evaluation.scores["msp", "id", "clean"])
    assert np.isfinite(beyond["doubled"]).tolist() == [True] * 3 + [False]
    weaker = np.mean(beyond["doubled"][:3] < attacked[:3] * (1 - 1e-6))
    assert records["msp", "ood", "more", "flag/bigger_epsilon"] == weaker
    short = np.mean(beyond["unlimited"][:3] < median)
    assert records["msp", "ood", "more", "flag/unlimited_epsilon"] == short
    assert 0 <= records["msp", "ood", "more", "flag/gradient_free"] <= 1
    assert sum(v for (d, s, _, m), v in records.items() if (d, s) == ("msp", "id") and m.startswith("worst/")) == 1
