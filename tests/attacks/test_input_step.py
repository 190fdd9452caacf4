"""The member `fast` on a score that steps its input, as ODIN's does."""

from dataclasses import replace

import pytest
import torch

from aloe_lightning import zoo
from aloe_lightning.attacks import Ball, Strong, Target, frozen_eval
from aloe_lightning.attacks.ascent import best_pgd, half_cosine, late_fall
from aloe_lightning.detectors import MSP, ODIN
from aloe_lightning.zoo.sample import sample_pictures


@pytest.mark.parametrize(("membership", "sign", "norm"), [("id", -1, "linf"), ("id", -1, "l2"), ("ood", 1, "linf")])
def test_foreseeing_the_step_finds_worse_scores(membership, sign, norm):
    net, x = zoo.load("demo-aloe-eps3-small"), sample_pictures().float() / 255
    attack = Strong(epsilon=2 if norm == "linf" else 64, norm=norm, preset="quick", members=["fast"])
    with frozen_eval(net):
        target = ODIN(temperature=1000, eta=0.004).fit(net).target(membership)
        assert target.input_step == 0.004
        foreseen = attack.attack_scores(x, {"": target})[""].score
        ignored = attack.attack_scores(x, {"": replace(target, input_step=0.0)})[""].score
    assert sign * (foreseen - ignored).mean() > 0


def test_the_objective_is_the_approximation_after_the_step(small_net):
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with frozen_eval(small_net):
        target = ODIN(eta=0.01).fit(small_net).target("ood")
        (gradient,) = torch.autograd.grad(target.approximation(x).sum(), x)
        stepped = target.approximation(x + target.input_step * gradient.sign())
        torch.testing.assert_close(target.objective(x), stepped, rtol=1e-5, atol=1e-9)
        assert MSP().fit(small_net).target("ood").input_step == 0
        assert ODIN(eta=0).fit(small_net).target("ood").approximation is None


def test_a_ball_without_extent_moves_nothing(small_net):
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with frozen_eval(small_net):
        target = ODIN().fit(small_net).target("ood")
        case = Strong(epsilon=0, preset="quick").attack_scores(x, {"": target})[""]
    torch.testing.assert_close(case.images, x, rtol=0, atol=0)


@pytest.mark.parametrize("steps", [0, 1, 7])
def test_an_estimate_chooses_among_all_iterates(steps):
    """The gradient leads upwards and the estimate prefers the start, or the least change of the gradient."""
    clean, seen = torch.full((3, 1, 2, 2), 0.5), []

    def loss(x):
        seen.append(x.detach())
        return -((x - 0.55) ** 2).flatten(1).sum(1)

    def estimate(values, gradient):
        return -((gradient.flatten(1).abs().sum(1) - 0.2) ** 2)

    ascent = best_pgd(clean, loss, ball=Ball("linf", 0.1), step_size=0.04, steps=steps, estimate=estimate)
    iterates = torch.stack(seen)
    slopes = (2 * (iterates - 0.55)).flatten(2).abs().sum(2)
    expected = -((slopes - 0.2) ** 2)
    assert len(iterates) == steps + 1
    torch.testing.assert_close(ascent.loss, expected.amax(0))
    torch.testing.assert_close(ascent.start_loss, expected[0])
    chosen = iterates[expected.argmax(0), torch.arange(3)]
    torch.testing.assert_close(ascent.images, chosen, rtol=0, atol=0)


@pytest.mark.parametrize("schedule", [half_cosine, late_fall])
def test_schedules_fall_from_one_to_zero(schedule):
    parts = [schedule(k / 10) for k in range(11)]
    assert parts[0] == 1
    assert parts[-1] == pytest.approx(0)
    assert parts == sorted(parts, reverse=True)


def test_a_score_without_a_step_is_attacked_as_it_is():
    """Here the approximation is exact: the member finds the corner of the ball, where a linear score is largest."""
    draws = torch.Generator().manual_seed(0)
    w, x = torch.randn(3 * 8 * 8, generator=draws), 0.3 + 0.4 * torch.rand(2, 3, 8, 8, generator=draws)
    score = lambda z: (z.flatten(1) @ w).double()  # noqa: E731
    target = Target(membership="ood", score=score, objective=score, approximation=score)
    case = Strong(epsilon=4, preset="quick").attack_scores(x, {"": target})[""]
    torch.testing.assert_close(case.score, score(x) + 4 / 255 * w.abs().sum(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("epsilon", [0, 4])
def test_a_climb_that_begins_at_the_peak_is_no_sign_of_a_weak_attack(epsilon, norm):
    draws = torch.Generator().manual_seed(0)
    w, x = torch.randn(3 * 8 * 8, generator=draws), 0.3 + 0.4 * torch.rand(2, 3, 8, 8, generator=draws)
    linear = lambda z: (z.flatten(1) @ w).double()  # noqa: E731
    attack = Strong(epsilon=epsilon, norm=norm, preset="quick")
    # The paper's attack reaches the optimum, so that no later step can raise the score.
    target = Target(membership="ood", score=linear, objective=linear, paper_loss=linear)
    assert not attack.attack_scores(x, {"": target})[""].not_rising.any()
    # Here the gradient leads away: it is that of the score times -1.
    away = lambda z: 2 * linear(z.detach()) - linear(z)  # noqa: E731
    misled = Target(membership="ood", score=linear, objective=away, paper_loss=lambda z: -linear(z))
    if epsilon:
        assert attack.attack_scores(x, {"": misled})[""].not_rising.all()
