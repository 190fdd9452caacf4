"""The member `target_class`: the most promising class of OOD images."""

from dataclasses import replace

import pytest
import torch

from aloe_lightning.attacks import Strong, Target, algorithm_1, frozen_eval, log_odds
from aloe_lightning.detectors import MSP


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_quick_finds_the_class_whose_confidence_can_rise_most(norm):
    """Class 0 is the most probable but can hardly rise; class 1 is linear, so its maximum has a closed form."""
    draws = torch.Generator().manual_seed(0)
    w = torch.randn(3 * 8 * 8, generator=draws)
    x = 0.3 + 0.4 * torch.rand(5, 3, 8, 8, generator=draws)
    first, eps = x.flatten(1) @ w, 8 / 255 if norm == "linf" else 128 / 255

    def logits(images):
        rise = images.flatten(1) @ w - first
        return torch.stack([torch.ones(5), 0.5 + rise, torch.full((5,), 0.9)], 1)

    target = Target(
        membership="ood",
        score=lambda z: logits(z).softmax(1).amax(1),
        objective=lambda z: log_odds(logits(z)),
        logits=logits,
        paper_loss=algorithm_1(logits, "ood"),
    )
    largest = 0.5 + eps * (w.abs().sum() if norm == "linf" else w.norm())
    expected = torch.tensor([1, largest, 0.9]).softmax(0)[1].expand(5)
    attack = Strong(epsilon=eps * 255, norm=norm, preset="quick")
    start = torch.zeros_like(x)
    case = attack.attack_scores(x, {"": target}, start=start)[""]
    torch.testing.assert_close(case.score, expected, rtol=1e-5, atol=0)
    assert list(case.candidates) == ["clean", "paper", "target_class", "fast"]
    without = replace(attack, members=["fast"]).attack_scores(x, {"": target}, start=start)[""]
    assert (without.score < expected - 0.01).all()


def test_detectors_on_the_same_logits_share_its_images(small_net):
    net, calls, x = small_net, [], torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    hook = net.register_forward_pre_hook(lambda _, inputs: calls.append(inputs[0].requires_grad))
    attack = Strong(epsilon=8, preset="quick", members=["target_class"])
    with frozen_eval(net):
        targets = {name: MSP().fit(net).target("ood") for name in "ab"}
        worst = attack.attack_scores(x, targets)
    hook.remove()
    assert sum(calls) == 10 + 1 + 2  # the paper's steps, one pass for three classes, a fifth of ten steps
    torch.testing.assert_close(worst["a"].score, worst["b"].score, rtol=0, atol=0)
    assert "target_class" not in attack.attack_scores(x, {"": MSP().fit(net).target("id")})[""].candidates
