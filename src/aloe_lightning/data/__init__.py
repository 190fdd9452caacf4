"""Data: in-distribution sets, auxiliary outliers, OOD test sets, and the batches made of them.

Names are imported when they are asked for: `python -m aloe_lightning.data list` should not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aloe_lightning.data.batches import Batch, process
    from aloe_lightning.data.cifar import CIFAR
    from aloe_lightning.data.datamodule import BatchSizes, InDistribution, Loads, RobustOODData
    from aloe_lightning.data.demo import Demo, DemoOOD, DemoOutliers
    from aloe_lightning.data.files import ImageFolder, NpyImages
    from aloe_lightning.data.gtsrb import GTSRB
    from aloe_lightning.data.ood import CIFAROOD, ISUN, SVHN, LSUNCrop, LSUNResize, Places365, Textures
    from aloe_lightning.data.outliers import ImageNet32, RandomImages300K, TinyImages
    from aloe_lightning.data.own import LabelledArrays, LabelledFolder, OwnData
    from aloe_lightning.data.source import ImageSet, ImageSource, MappedImages

_HOME = {
    "batches": ("Batch", "process"),
    "cifar": ("CIFAR",),
    "datamodule": ("BatchSizes", "InDistribution", "Loads", "RobustOODData"),
    "demo": ("Demo", "DemoOOD", "DemoOutliers"),
    "files": ("ImageFolder", "NpyImages"),
    "gtsrb": ("GTSRB",),
    "ood": ("CIFAROOD", "ISUN", "SVHN", "LSUNCrop", "LSUNResize", "Places365", "Textures"),
    "outliers": ("ImageNet32", "RandomImages300K", "TinyImages"),
    "own": ("LabelledArrays", "LabelledFolder", "OwnData"),
    "source": ("ImageSet", "ImageSource", "MappedImages"),
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
    "Loads",
    "MappedImages",
    "NpyImages",
    "OwnData",
    "Places365",
    "RandomImages300K",
    "RobustOODData",
    "Textures",
    "TinyImages",
    "process",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
