"""Training objectives: one LightningModule each, with the inner maximisation in `training_step`."""

from aloe_lightning.objectives.objective import LogitsLoss, Objective
from aloe_lightning.objectives.optim import Optim
from aloe_lightning.objectives.paper import ADV, ALOE, AOE, OE, Original

__all__ = ["ADV", "ALOE", "AOE", "OE", "LogitsLoss", "Objective", "Optim", "Original"]
