"""Nets: images (N, 3, H, W) in [0, 1] to logits (N, K) and features; normalisation is inside."""

from aloe_lightning.nets.classifier import Classifier, Normalize
from aloe_lightning.nets.densenet import DenseNet
from aloe_lightning.nets.small import SmallNet

__all__ = ["Classifier", "DenseNet", "Normalize", "SmallNet"]
