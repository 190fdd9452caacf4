"""The unit test of attacks: it passes a sound attack, and fails a broken one."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from aloe_lightning.attacks import PGD, ScoreAttack, Strong, attack_unit_test, log_odds
from aloe_lightning.detectors import MSP, ODIN, Energy


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 5 * 5, 10)).eval()


OPTIONS = {"num_images": 20, "size": 12}


@pytest.mark.parametrize(("detector", "epsilon"), [(MSP(), 1), (Energy(), 2), (ODIN(), 8)])
def test_standard_finds_the_planted_examples(net, detector, epsilon):
    report = attack_unit_test(
        lambda planted: detector.fit(planted), Strong(epsilon=epsilon), net=net, epsilon=epsilon, **OPTIONS
    )
    assert report.share >= 0.98, str(report)


def test_standard_finds_those_in_an_l2_ball_and_through_a_plain_score(net):
    attack = Strong(epsilon=128, norm="l2")
    report = attack_unit_test(
        lambda planted: lambda x: log_odds(planted(x)), attack, net=net, epsilon=128, norm="l2", **OPTIONS
    )
    assert report.share >= 0.98, str(report)


def test_the_papers_attack_misses_most_planted_low_scores():
    report = attack_unit_test(lambda planted: MSP().fit(planted), PGD(epsilon=1, steps=10), **OPTIONS)
    assert report.found["id"].double().mean() < 0.2, str(report)


class Detached(nn.Module):
    """Logits without a gradient, as after a `detach` too many."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        return self.net(images.detach()) + 0 * images.flatten(1).sum(1, keepdim=True)


class WrongSign(ScoreAttack):
    """Attacks in-distribution images as if they were OOD, and the other way round."""

    def __call__(self, images, loss, *, start=None, generator=None):
        raise NotImplementedError

    def describe(self):
        return "mutation"

    def attack_scores(self, images, targets, **options):
        other = {"id": "ood", "ood": "id"}
        flipped = {name: replace(target, membership=other[target.membership]) for name, target in targets.items()}
        return Strong().attack_scores(images, flipped, **options)


MUTATIONS = {
    "detached gradient": (lambda planted: MSP().fit(Detached(planted)), Strong()),
    "wrong sign": (lambda planted: MSP().fit(planted), WrongSign()),
    "clipped steps": (lambda planted: MSP().fit(planted), Strong(epsilon=0.2)),
}


@pytest.mark.parametrize("mutation", sorted(MUTATIONS))
def test_a_broken_attack_finds_few(net, mutation):
    fit, attack = MUTATIONS[mutation]
    assert attack_unit_test(fit, attack, net=net, **OPTIONS).share < 0.5


class Outside(ScoreAttack):
    """Leaves the ball."""

    def __call__(self, images, loss, *, start=None, generator=None):
        raise NotImplementedError

    def describe(self):
        return "mutation"

    def attack_scores(self, images, targets, **options):
        return Strong(epsilon=3, preset="quick").attack_scores(images, targets, **options)


def test_an_attack_outside_the_ball_is_refused(net):
    with pytest.raises(ValueError, match="leaves the ball"):
        attack_unit_test(lambda planted: MSP().fit(planted), Outside(), net=net, **OPTIONS)


def test_a_detector_that_ignores_the_logits_is_refused(net):
    with pytest.raises(ValueError, match="does not move the score"):
        attack_unit_test(lambda planted: lambda x: x.flatten(1).sum(1) * 0, Strong(preset="quick"), net=net, **OPTIONS)
    assert torch.is_grad_enabled()
