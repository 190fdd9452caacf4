"""Attacks: one Linf PGD, the context that makes a net frozen_eval, and the paper's algorithms on top of them."""

from aloe_lightning.attacks.confidence import AttackLoss, ConfidenceAttack, Membership, confidence_loss
from aloe_lightning.attacks.freeze import BatchNormMode, frozen_eval
from aloe_lightning.attacks.linf import LossFn, Rounding, gradient_sign, gradient_signs, pgd_linf, uniform_start

__all__ = [
    "AttackLoss",
    "BatchNormMode",
    "ConfidenceAttack",
    "LossFn",
    "Membership",
    "Rounding",
    "confidence_loss",
    "frozen_eval",
    "gradient_sign",
    "gradient_signs",
    "pgd_linf",
    "uniform_start",
]
