"""The ensemble attack on scores: worst case, replay, flags."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from aloe_lightning.attacks import PGD, Ball, ImageSeeds, Strong, Target, algorithm_1, frozen_eval, log_odds
from aloe_lightning.attacks.ensemble import flags
from aloe_lightning.attacks.ensemble.target import Pool
from aloe_lightning.detectors import MSP, ODIN, Energy, MaxLogit
from aloe_lightning.errors import UserError
from aloe_lightning.losses import cross_entropy

DETECTORS = {"msp": MSP(), "odin": ODIN(), "energy": Energy(), "max_logit": MaxLogit()}
SMALL = {"steps": 4, "queries": 6, "epsilon_checks": 0}


@pytest.fixture
def net():
    """A smooth net in which the members find different images."""
    torch.manual_seed(3)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(8 * 7 * 7, 6))
    for layer in layers:
        if hasattr(layer, "weight"):
            nn.init.normal_(layer.weight, std=0.2)
    return layers.eval()


@pytest.fixture
def x():
    return torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def worst_cases(net, x, attack, membership, **options):
    with frozen_eval(net):
        targets = {name: detector.fit(net).target(membership) for name, detector in DETECTORS.items()}
        return attack.attack_scores(x, targets, **options), targets


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("membership", ["id", "ood"])
def test_the_result_is_the_worst_candidate_of_each_image_by_the_detectors_own_score(net, x, norm, membership):
    attack = Strong(epsilon=8 if norm == "linf" else 128, norm=norm, **SMALL)
    worst, targets = worst_cases(net, x, attack, membership)
    for name, case in worst.items():
        scores = torch.stack(list(case.candidates.values()))
        expected = scores.amin(0) if membership == "id" else scores.amax(0)
        torch.testing.assert_close(case.score, expected, rtol=0, atol=0)
        torch.testing.assert_close(DETECTORS[name].fit(net)(case.images), case.score, rtol=1e-5, atol=1e-8)
        change = (case.images - x).flatten(1)
        size = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
        assert (size <= attack.epsilon / 255 * (1 + 1e-5) + 1e-6).all()
        assert case.images.min() >= 0
        assert case.images.max() <= 1
        assert list(case.candidates)[:2] == ["clean", "paper"]
        members = {"score", "momentum", "margin", "centred", "surrogate", "square", "polish", "transfer"}
        assert set(case.candidates) == members | {"clean", "paper"} | ({"classes"} if membership == "ood" else set())
        torch.testing.assert_close(case.candidates["clean"], DETECTORS[name].fit(net)(x))
        moved = (case.score - case.candidates["clean"]) * targets[name].sign
        assert (moved > 0).all()


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_pool_keeps_the_worst_of_any_candidates(data):
    membership = data.draw(st.sampled_from(["id", "ood"]))
    count = data.draw(st.integers(1, 4))
    values = st.lists(st.floats(-5, 5) | st.just(float("nan")), min_size=count, max_size=count)
    offers = data.draw(st.lists(st.tuples(st.sampled_from("abc"), values), max_size=6))
    score = lambda images: images.flatten(1)[:, 0].double()  # noqa: E731  the first pixel
    picture = lambda row: torch.tensor(row).view(-1, 1, 1, 1)  # noqa: E731
    clean = picture([0.0] * count)
    pool = Pool(Target(membership=membership, score=score), clean, score(clean))
    for name, row in offers:
        pool.offer(name, picture(row))
    result = pool.result()
    unknown = np.array([[False] * count, *np.isnan([row for _, row in offers]).reshape(len(offers), count)]).any(0)
    np.testing.assert_array_equal(result.not_finite.numpy(), unknown)
    assert flags.not_finite(result.not_finite).raised == unknown.any()
    rows = np.array([[0.0] * count, *(row for _, row in offers)], dtype=np.float32)
    expected = np.nanmin(rows, 0) if membership == "id" else np.nanmax(rows, 0)
    np.testing.assert_array_equal(result.score.numpy(), expected)
    np.testing.assert_array_equal(score(result.images).numpy(), expected)


def test_no_result_depends_on_the_batch_and_a_seed_replays(net, x):
    attack = Strong(epsilon=8, restarts=2, **SMALL)
    whole, _ = worst_cases(net, x, attack, "ood", seeds=ImageSeeds((5, "textures"), range(6)))
    again, _ = worst_cases(net, x, attack, "ood", seeds=ImageSeeds((5, "textures"), range(6)))
    other, _ = worst_cases(net, x, attack, "ood", seeds=ImageSeeds((6, "textures"), range(6)))
    parts = [
        worst_cases(net, x[chosen], attack, "ood", seeds=ImageSeeds((5, "textures"), chosen))[0]
        for chosen in ([4, 1], [0, 2, 3, 5])
    ]
    order = torch.tensor([4, 1, 0, 2, 3, 5]).argsort()
    for name, case in whole.items():
        torch.testing.assert_close(case.score, again[name].score, rtol=0, atol=0)
        assert not torch.equal(case.candidates["score"], other[name].candidates["score"])
        joined = torch.cat([part[name].score for part in parts])[order]
        torch.testing.assert_close(joined, case.score, rtol=1e-4, atol=1e-6)


def test_the_paper_member_is_the_papers_attack(net, x):
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    worst, _ = worst_cases(net, x, Strong(epsilon=3, preset="quick"), "id", start=noise)
    with frozen_eval(net):
        adversarial = PGD(epsilon=3, steps=10)(x, algorithm_1(net, "id"), start=noise)
        for name, case in worst.items():
            torch.testing.assert_close(case.candidates["paper"], DETECTORS[name].fit(net)(adversarial))


def test_attacking_one_loss_is_never_weaker_than_the_papers_attack(net, x):
    labels = torch.arange(6)
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    loss = lambda z: cross_entropy(net(z), labels)  # noqa: E731
    with frozen_eval(net):
        paper = loss(PGD(epsilon=4, steps=10)(x, loss, start=noise))
        for preset in ("quick", "standard"):
            strong = loss(Strong(epsilon=4, preset=preset)(x, loss, start=noise))
            assert (strong >= paper - 1e-6).all()
            assert (strong >= loss(x) - 1e-6).all()
        assert strong.mean() > paper.mean()


def test_the_objective_of_each_detector_rises_with_its_score(net, x):
    with frozen_eval(net), torch.no_grad():
        for detector in DETECTORS.values():
            target = detector.fit(net).target("id")
            order = target.score(x).argsort()
            assert (target.objective(x)[order].diff() > 0).all()


def test_a_score_without_gradient_is_attacked_through_surrogates(net, x):
    score = lambda z: (100 * log_odds(net(z))).round() / 100  # noqa: E731
    target = Target(
        membership="id", score=score, logits=net, paper_loss=algorithm_1(net, "id"), paper_key=None, objective=None
    )
    with frozen_eval(net):
        case = Strong(epsilon=8, **SMALL).attack_scores(x, {"mine": target})["mine"]
    assert "score" not in case.candidates
    assert (case.score < score(x)).all()
    assert flags.surrogate_only(case.candidates).raised
    assert not flags.surrogate_only({"clean": 0, "fast": 0}).raised


def test_flags_of_a_sound_and_of_a_masked_score(net, x):
    with frozen_eval(net):
        sound = MSP().fit(net).target("id")
        case = Strong(epsilon=8, steps=15, queries=10, epsilon_checks=0).attack_scores(x, {"": sound})[""]
        raised = {flag.name for flag in flags.flags_of(case, sound) if flag.raised}
        assert not raised & {"zero_gradient", "not_rising", "surrogate_only", "random_score"}
        flat = lambda z: log_odds(net(z.detach())) + 0 * z.flatten(1).sum(1)  # noqa: E731
        masked = Target(membership="id", score=flat, objective=flat)
        case = Strong(epsilon=8, steps=4, queries=50, epsilon_checks=0).attack_scores(x, {"": masked})[""]
    raised = {flag.name: flag.value for flag in flags.flags_of(case, masked) if flag.raised}
    # The noise of the starts, too, changes the score a little.
    assert raised.pop("gradient_free") > 0.5
    assert raised == {"zero_gradient": 1.0, "not_rising": 1.0}


def test_flags_as_functions_of_scores():
    t = torch.tensor
    assert flags.bigger_epsilon_weaker(t([1.0, 2.0, 3.0, 4.0]), t([0.5, 2.5, 3.0, 3.0]), -1).value == 0.25
    assert flags.bigger_epsilon_weaker(t([1.0, 2.0]), t([0.5, 2.5]), 1).value == 0.5
    assert flags.unlimited_epsilon_short(t([0.1, 0.2, 0.9, 0.3]), 0.5, -1).value == 0.25
    gradient_free = flags.gradient_free_beats_gradient(t([1.0, 1.0]), t([0.8, 0.8]), t([0.8, 0.6]))
    assert gradient_free.value == pytest.approx(0.2 / 0.6)
    assert gradient_free.raised


def test_a_score_that_differs_between_two_calls_is_flagged(net, x):
    draws = torch.Generator().manual_seed(0)
    score = lambda z: log_odds(net(z)) + torch.rand(len(z), generator=draws)  # noqa: E731
    with frozen_eval(net):
        target = Target(membership="ood", score=score, objective=score)
        case = Strong(epsilon=8, preset="quick").attack_scores(x, {"": target})[""]
        many = Strong(epsilon=8, preset="quick", members=["fast"]).attack_scores(
            x[:1].expand(20, -1, -1, -1), {"": target}
        )
    assert case.random_score.tolist() == [1] * 6
    assert many[""].random_score.isnan().tolist() == [False] * 16 + [True] * 4
    assert flags.random_score(many[""].random_score).value == 1
    assert {flag.name for flag in flags.flags_of(case, target) if flag.raised} >= {"random_score"}


def test_larger_balls_are_tried_on_the_first_images_of_a_set(net, x):
    attack = Strong(epsilon=2, steps=4, queries=0, epsilon_checks=2)
    with frozen_eval(net):
        target = MSP().fit(net).target("ood")
        case = attack.attack_scores(x, {"": target}, seeds=ImageSeeds((0,), [5, 1, 4, 0, 3, 2]))[""]
        bigger = Strong(epsilon=4, **{**SMALL, "queries": 0})
        direct = bigger.attack_scores(x[[1, 3]], {"": target}, seeds=ImageSeeds((0,), [1, 0]))[""]
    assert case.beyond["doubled"].isnan().tolist() == [True, False, True, False, True, True]
    torch.testing.assert_close(case.beyond["doubled"][[1, 3]], direct.score, rtol=1e-4, atol=1e-6)
    tried = [1, 3]
    assert (case.beyond["unlimited"][tried] > case.beyond["doubled"][tried]).all()
    assert (case.beyond["doubled"][tried] > case.score[tried]).all()


def test_flags_of_epsilon(net, x):
    with frozen_eval(net):
        target = MSP().fit(net).target("id")
        found = flags.epsilon_flags(Strong(epsilon=2, **SMALL), x, target, threshold=float(target.score(x).median()))
    assert [(flag.name, flag.raised) for flag in found] == [("bigger_epsilon", False), ("unlimited_epsilon", False)]


def test_images_that_are_no_pixels_and_noise_of_other_images_are_refused(net, x):
    target, attack = {"": MSP().fit(net).target("id")}, Strong(preset="quick")
    with pytest.raises(UserError, match=r"in \[0, 1\]; these are in \[-1, 1\]"):
        attack.attack_scores(2 * x - 1, target)
    with pytest.raises(UserError, match=r"in \[0, 1\]"):
        attack(x + 0.1, lambda z: z.flatten(1).sum(1))
    with pytest.raises(ValueError, match="start must have the images' shape"):
        attack.attack_scores(x, target, start=x[:1])
    with pytest.raises(ValueError, match="seeds are of 2 images, not 6"):
        attack.attack_scores(x, target, seeds=ImageSeeds.of(2))


def test_settings():
    with pytest.raises(UserError, match="255"):
        Strong(epsilon=300)
    with pytest.raises(UserError, match="members"):
        Strong(members=["skore"])
    assert Strong(epsilon=300, norm="l2").ball == Ball("l2", 300 / 255)
    assert Strong(preset="extreme").budget.steps == 500
    assert Strong(preset="extreme", steps=3).budget.steps == 3
    described = Strong(preset="quick").describe()
    assert described.startswith("strong version 4 (quick, Linf): pointwise worst case")
