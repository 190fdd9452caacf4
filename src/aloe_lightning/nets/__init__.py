"""Nets: images (N, 3, H, W) in [0, 1] to logits (N, K) and features; normalisation is inside."""

from aloe_lightning.nets.classifier import Classifier, Normalize
from aloe_lightning.nets.densenet import DenseNet
from aloe_lightning.nets.features import WithFeatures, last_layer, with_features
from aloe_lightning.nets.interval_bounds import ConfidenceBounds, Unbounded
from aloe_lightning.nets.library import LibraryNet, Timm, Torchvision
from aloe_lightning.nets.rejection import RejectionNet
from aloe_lightning.nets.resnet18 import ResNet18
from aloe_lightning.nets.saved import SavedNet
from aloe_lightning.nets.small import SmallNet
from aloe_lightning.nets.wide_resnet import WideResNet

__all__ = [
    "Classifier",
    "ConfidenceBounds",
    "DenseNet",
    "LibraryNet",
    "Normalize",
    "RejectionNet",
    "ResNet18",
    "SavedNet",
    "SmallNet",
    "Timm",
    "Torchvision",
    "Unbounded",
    "WideResNet",
    "WithFeatures",
    "last_layer",
    "with_features",
]
