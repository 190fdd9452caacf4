"""Data: in-distribution sets, auxiliary outliers, OOD test sets, and the batches made of them."""

from aloe_lightning.data.batches import Batch, process
from aloe_lightning.data.cifar import CIFAR
from aloe_lightning.data.datamodule import BatchSizes, InDistribution, Loads, RobustOODData
from aloe_lightning.data.demo import Demo, DemoOOD, DemoOutliers
from aloe_lightning.data.files import SVHN, ImageFolder, NpyImages
from aloe_lightning.data.source import ImageSet, ImageSource

__all__ = [
    "CIFAR",
    "SVHN",
    "Batch",
    "BatchSizes",
    "Demo",
    "DemoOOD",
    "DemoOutliers",
    "ImageFolder",
    "ImageSet",
    "ImageSource",
    "InDistribution",
    "Loads",
    "NpyImages",
    "RobustOODData",
    "process",
]
