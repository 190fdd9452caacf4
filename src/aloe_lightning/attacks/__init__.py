"""Attacks: maximisers of a per-sample loss of images, the losses of Algorithm 1, and the context that freezes a net."""

from aloe_lightning.attacks.algorithm_1 import Membership, algorithm_1
from aloe_lightning.attacks.freeze import BatchNormMode, frozen_eval
from aloe_lightning.attacks.linf import LossFn, Rounding, gradient_sign, gradient_signs, pgd_linf, uniform_start
from aloe_lightning.attacks.pgd import PGD, Attack

__all__ = [
    "PGD",
    "Attack",
    "BatchNormMode",
    "LossFn",
    "Membership",
    "Rounding",
    "algorithm_1",
    "frozen_eval",
    "gradient_sign",
    "gradient_signs",
    "pgd_linf",
    "uniform_start",
]
