"""Attacks: one Linf PGD, the context that makes a net attackable, and the paper's algorithms on top of them."""

from aloe_lightning.attacks.confidence import ConfidenceAttack, Membership
from aloe_lightning.attacks.linf import LossFn, Rounding, gradient_sign, pgd_linf, uniform_start
from aloe_lightning.attacks.modes import BatchNormMode, attackable

__all__ = [
    "BatchNormMode",
    "ConfidenceAttack",
    "LossFn",
    "Membership",
    "Rounding",
    "attackable",
    "gradient_sign",
    "pgd_linf",
    "uniform_start",
]
