"""Training objectives: one LightningModule each, with the inner maximisation in `training_step`."""

from aloe_lightning.objectives.adv import ADV
from aloe_lightning.objectives.aloe import ALOE
from aloe_lightning.objectives.aoe import AOE
from aloe_lightning.objectives.objective import LogitsLoss, Objective
from aloe_lightning.objectives.oe import OE
from aloe_lightning.objectives.optim import Optim
from aloe_lightning.objectives.original import Original

__all__ = ["ADV", "ALOE", "AOE", "OE", "LogitsLoss", "Objective", "Optim", "Original"]
