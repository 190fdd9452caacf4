"""Data: in-distribution sets, auxiliary outliers, OOD test sets, and batches of them.

Names are imported when they are used: `python -m aloe_lightning.data list` should not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aloe_lightning.data.batches import Batch
    from aloe_lightning.data.datamodule import BatchSizes, InDistribution, RobustOODData, UnlabelledDataset
    from aloe_lightning.data.images.files import ImageFolder, NpyImages
    from aloe_lightning.data.images.source import ImageSet, ImageSource, MappedImages
    from aloe_lightning.data.sets.cifar import CIFAR10, CIFAR100, CIFAR10Test, CIFAR100Test
    from aloe_lightning.data.sets.custom import CustomDataset, LabelledArrays, LabelledFolder
    from aloe_lightning.data.sets.demo import Demo, DemoOOD, DemoOutliers
    from aloe_lightning.data.sets.gtsrb import GTSRB
    from aloe_lightning.data.sets.named import PictureSet
    from aloe_lightning.data.sets.outliers import ImageNet32, RandomImages300K, TinyImages
    from aloe_lightning.data.sets.svhn import SVHN
    from aloe_lightning.data.test_only import NoOutliers, TestFolder

_NAMES = {
    "batches": ("Batch",),
    "datamodule": ("BatchSizes", "InDistribution", "RobustOODData", "UnlabelledDataset"),
    "images.files": ("ImageFolder", "NpyImages"),
    "images.source": ("ImageSet", "ImageSource", "MappedImages"),
    "sets.cifar": ("CIFAR10", "CIFAR100", "CIFAR10Test", "CIFAR100Test"),
    "sets.custom": ("CustomDataset", "LabelledArrays", "LabelledFolder"),
    "sets.demo": ("Demo", "DemoOOD", "DemoOutliers"),
    "sets.gtsrb": ("GTSRB",),
    "sets.named": ("PictureSet",),
    "sets.outliers": ("ImageNet32", "RandomImages300K", "TinyImages"),
    "sets.svhn": ("SVHN",),
    "test_only": ("NoOutliers", "TestFolder"),
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "GTSRB",
    "SVHN",
    "Batch",
    "BatchSizes",
    "CIFAR10Test",
    "CIFAR100Test",
    "CustomDataset",
    "Demo",
    "DemoOOD",
    "DemoOutliers",
    "ImageFolder",
    "ImageNet32",
    "ImageSet",
    "ImageSource",
    "InDistribution",
    "LabelledArrays",
    "LabelledFolder",
    "MappedImages",
    "NoOutliers",
    "NpyImages",
    "PictureSet",
    "RandomImages300K",
    "RobustOODData",
    "TestFolder",
    "TinyImages",
    "UnlabelledDataset",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
