"""Does your detector survive? The evaluation of a given net or score under attack, on images of any size."""

from aloe_lightning.robustness.evaluate import evaluate
from aloe_lightning.robustness.result import Result

__all__ = ["Result", "evaluate"]
