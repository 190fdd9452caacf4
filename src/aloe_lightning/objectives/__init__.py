"""Training objectives: one LightningModule each, with the inner maximisation in `training_step`."""

from aloe_lightning.objectives.acet import ACET
from aloe_lightning.objectives.adv import ADV
from aloe_lightning.objectives.aloe import ALOE
from aloe_lightning.objectives.aoe import AOE
from aloe_lightning.objectives.atom import ATOM
from aloe_lightning.objectives.halo import HALO
from aloe_lightning.objectives.ntom import NTOM
from aloe_lightning.objectives.objective import LogitsLoss, Objective
from aloe_lightning.objectives.oe import OE
from aloe_lightning.objectives.optim import Optim
from aloe_lightning.objectives.original import Original

__all__ = ["ACET", "ADV", "ALOE", "AOE", "ATOM", "HALO", "NTOM", "OE", "LogitsLoss", "Objective", "Optim", "Original"]
