"""Attacks: one Linf PGD, the context that makes a net attackable, and the paper's algorithms on top of them."""

from aloe_lightning.attacks.confidence import AttackLoss, ConfidenceAttack, Membership, confidence_loss
from aloe_lightning.attacks.linf import LossFn, Rounding, gradient_sign, gradient_signs, pgd_linf, uniform_start
from aloe_lightning.attacks.modes import BatchNormMode, attackable

__all__ = [
    "AttackLoss",
    "BatchNormMode",
    "ConfidenceAttack",
    "LossFn",
    "Membership",
    "Rounding",
    "attackable",
    "confidence_loss",
    "gradient_sign",
    "gradient_signs",
    "pgd_linf",
    "uniform_start",
]
