"""The strong attack from the command line's config."""

import pytest

from aloe_lightning.attacks import Ball, Strong
from aloe_lightning.config.build import build_attack
from aloe_lightning.config.validation import validated
from aloe_lightning.errors import UserError
from composing import changed


def test_the_group_strong_builds_the_attack_and_keeps_the_training_of_the_paper():
    config = validated(changed(["attack=strong"], "epsilon=2", "attack.eval.preset=quick"))
    assert build_attack(config) == Strong(epsilon=2, preset="quick")
    assert config["attack"]["name"] == "strong"
    assert config["attack"]["train"] == validated(changed([]))["attack"]["train"] | {"epsilon": 2}


def test_an_l2_ball_and_chosen_members():
    settings = ("attack.eval.norm=l2", "attack.eval.epsilon=300", "attack.eval.members=[score, square]")
    attack = build_attack(validated(changed(["attack=strong"], *settings)))
    assert attack.ball == Ball("l2", 300 / 255)
    assert attack.member_names == ("score", "square")


def test_an_unknown_member_is_named():
    with pytest.raises(UserError, match=r"attack.eval.members"):
        validated(changed(["attack=strong"], "attack.eval.members=[skore]"))
