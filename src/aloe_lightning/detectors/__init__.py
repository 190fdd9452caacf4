"""Detectors: settings with a `fit(net)` that returns images -> scores, higher = more in-distribution."""

from aloe_lightning.detectors.detector import Detector, ScoreFn
from aloe_lightning.detectors.msp import MSP, max_softmax
from aloe_lightning.detectors.odin import ODIN

__all__ = ["MSP", "ODIN", "Detector", "ScoreFn", "max_softmax"]
