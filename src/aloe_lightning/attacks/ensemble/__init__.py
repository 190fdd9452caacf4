"""The ensemble attack on the scores of detectors, its flags, and a unit test for it."""

from aloe_lightning.attacks.ensemble.flags import Flag, flags_of
from aloe_lightning.attacks.ensemble.logit_losses import centred, log_odds, margin
from aloe_lightning.attacks.ensemble.members import MemberName
from aloe_lightning.attacks.ensemble.strong import ScoreAttack, Strong
from aloe_lightning.attacks.ensemble.target import ImageSeeds, Target, WorstCase
from aloe_lightning.attacks.ensemble.unit_test import PlantedReport, attack_unit_test

__all__ = [
    "Flag",
    "ImageSeeds",
    "MemberName",
    "PlantedReport",
    "ScoreAttack",
    "Strong",
    "Target",
    "WorstCase",
    "attack_unit_test",
    "centred",
    "flags_of",
    "log_odds",
    "margin",
]
