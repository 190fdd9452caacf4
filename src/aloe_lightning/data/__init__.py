"""Data: in-distribution sets, auxiliary outliers, OOD test sets, and the batches made of them.

Names are imported when they are asked for: `python -m aloe_lightning.data list` should not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aloe_lightning.data.batches import Batch
    from aloe_lightning.data.datamodule import BatchSizes, InDistribution, RobustOODData, UnlabelledDataset
    from aloe_lightning.data.images.files import ImageFolder, NpyImages
    from aloe_lightning.data.images.source import ImageSet, ImageSource, MappedImages
    from aloe_lightning.data.sets.cifar import CIFAR
    from aloe_lightning.data.sets.custom import CustomDataset, LabelledArrays, LabelledFolder
    from aloe_lightning.data.sets.demo import Demo, DemoOOD, DemoOutliers
    from aloe_lightning.data.sets.gtsrb import GTSRB
    from aloe_lightning.data.sets.ood import CIFAROOD, ISUN, SVHN, LSUNCrop, LSUNResize, Places365, Textures
    from aloe_lightning.data.sets.outliers import ImageNet32, RandomImages300K, TinyImages

_HOME = {
    "batches": ("Batch",),
    "datamodule": ("BatchSizes", "InDistribution", "RobustOODData", "UnlabelledDataset"),
    "images.files": ("ImageFolder", "NpyImages"),
    "images.source": ("ImageSet", "ImageSource", "MappedImages"),
    "sets.cifar": ("CIFAR",),
    "sets.custom": ("CustomDataset", "LabelledArrays", "LabelledFolder"),
    "sets.demo": ("Demo", "DemoOOD", "DemoOutliers"),
    "sets.gtsrb": ("GTSRB",),
    "sets.ood": ("CIFAROOD", "ISUN", "SVHN", "LSUNCrop", "LSUNResize", "Places365", "Textures"),
    "sets.outliers": ("ImageNet32", "RandomImages300K", "TinyImages"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "CIFAR",
    "CIFAROOD",
    "GTSRB",
    "ISUN",
    "SVHN",
    "Batch",
    "BatchSizes",
    "CustomDataset",
    "Demo",
    "DemoOOD",
    "DemoOutliers",
    "ImageFolder",
    "ImageNet32",
    "ImageSet",
    "ImageSource",
    "InDistribution",
    "LSUNCrop",
    "LSUNResize",
    "LabelledArrays",
    "LabelledFolder",
    "MappedImages",
    "NpyImages",
    "Places365",
    "RandomImages300K",
    "RobustOODData",
    "Textures",
    "TinyImages",
    "UnlabelledDataset",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
