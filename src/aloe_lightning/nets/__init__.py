"""Nets: images (N, 3, 32, 32) in [0, 1] -> logits (N, K); normalisation inside; `features` for detectors."""

from aloe_lightning.nets.densenet import DenseNet
from aloe_lightning.nets.normalize import Normalize
from aloe_lightning.nets.small import SmallNet

__all__ = ["DenseNet", "Normalize", "SmallNet"]
