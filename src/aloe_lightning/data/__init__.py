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
    from aloe_lightning.data.mining import OutlierMining
    from aloe_lightning.data.sets.cifar import CIFAR10, CIFAR100, CIFAR10Test, CIFAR100Test
    from aloe_lightning.data.sets.custom import CustomDataset, LabelledArrays, LabelledFolder
    from aloe_lightning.data.sets.demo import Demo, DemoOOD, DemoOutliers
    from aloe_lightning.data.sets.gtsrb import GTSRB
    from aloe_lightning.data.sets.named import PictureSet
    from aloe_lightning.data.sets.outliers import ImageNet32, RandomImages300K, TinyImages
    from aloe_lightning.data.sets.svhn import SVHN
    from aloe_lightning.data.test_only import NoOutliers, TestFolder

__all__ = ["Batch", "BatchSizes", "InDistribution", "OutlierMining", "RobustOODData", "UnlabelledDataset"]
__all__ += ["ImageFolder", "ImageSet", "ImageSource", "MappedImages", "NpyImages", "PictureSet"]
__all__ += ["CIFAR10", "CIFAR100", "GTSRB", "CustomDataset", "Demo", "LabelledArrays", "LabelledFolder"]
__all__ += ["SVHN", "CIFAR10Test", "CIFAR100Test", "DemoOOD", "NoOutliers", "TestFolder"]
__all__ += ["DemoOutliers", "ImageNet32", "RandomImages300K", "TinyImages"]


def __getattr__(name: str) -> Any:
    from aloe_lightning.signatures.source import outline

    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(outline(__name__)[name].__module__), name)
