"""Attacks: maximisers of a per-sample loss of images, the losses of Algorithm 1, and the context that freezes a net."""

from aloe_lightning.attacks.algorithm_1 import Membership, algorithm_1
from aloe_lightning.attacks.apgd import apgd
from aloe_lightning.attacks.ascent import Ascent, best_pgd
from aloe_lightning.attacks.ball import Ball, Norm
from aloe_lightning.attacks.ensemble import (
    Flag,
    ImageSeeds,
    PlantedReport,
    ScoreAttack,
    Strong,
    Target,
    WorstCase,
    attack_unit_test,
    log_odds,
)
from aloe_lightning.attacks.freeze import BatchNormMode, frozen_eval
from aloe_lightning.attacks.linf import LossFn, Rounding, gradient_sign, gradient_signs, pgd_linf, uniform_start
from aloe_lightning.attacks.pgd import PGD, Attack
from aloe_lightning.attacks.square import square

__all__ = [
    "PGD",
    "Ascent",
    "Attack",
    "Ball",
    "BatchNormMode",
    "Flag",
    "ImageSeeds",
    "LossFn",
    "Membership",
    "Norm",
    "PlantedReport",
    "Rounding",
    "ScoreAttack",
    "Strong",
    "Target",
    "WorstCase",
    "algorithm_1",
    "apgd",
    "attack_unit_test",
    "best_pgd",
    "frozen_eval",
    "gradient_sign",
    "gradient_signs",
    "log_odds",
    "pgd_linf",
    "square",
    "uniform_start",
]
