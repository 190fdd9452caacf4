"""From the name of a set, or a path to images of one's own, to its images: what the command line looks at."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aloe_lightning.data.catalogue import sets as catalogue
from aloe_lightning.data.images.files import ImageFolder, NpyImages
from aloe_lightning.data.images.source import ImageSource
from aloe_lightning.data.sets.cifar import CIFAR
from aloe_lightning.data.sets.custom import read_arrays
from aloe_lightning.data.sets.demo import Demo, DemoOutliers
from aloe_lightning.data.sets.gtsrb import GTSRB
from aloe_lightning.data.sets.ood import ISUN, SVHN, LSUNCrop, LSUNResize, Places365, Textures
from aloe_lightning.data.sets.outliers import ImageNet32, RandomImages300K, TinyImages

Parts = dict[str, Callable[[], ImageSource]]
"""Name of a split -> what reads it."""

NO_NET = (0.0, 0.0, 0.0)  # where nothing is normalised
CLASSES: Mapping[str, type] = {
    "cifar10": CIFAR,
    "cifar100": CIFAR,
    "gtsrb": GTSRB,
    "random_images_300k": RandomImages300K,
    "tiny_images": TinyImages,
    "imagenet32": ImageNet32,
    "svhn": SVHN,
    "textures": Textures,
    "places365": Places365,
    "lsun_c": LSUNCrop,
    "lsun_r": LSUNResize,
    "isun": ISUN,
}


def page_of(name: str) -> str:
    """What there is to know about a named set: the docstring of the class that reads it."""
    lines = (CLASSES[name].__doc__ or "").split("\n\n    Attributes:")[0].splitlines()
    return "\n".join(line.removeprefix("    ") for line in lines).strip()


def named_parts(name: str, root: Path, *, verify: bool) -> Parts:
    """The splits of a named set."""
    where: dict[str, Any] = {"root": str(root), "verify": verify}
    net: dict[str, Any] = {"mean": NO_NET, "std": NO_NET}
    if name in ("cifar10", "cifar100"):
        cifar = CIFAR(name=name, num_classes=int(name.removeprefix("cifar")), **net, **where)
        return {"train": cifar.train_set, "test": cifar.test_set}
    if name == "gtsrb":
        signs = GTSRB(name=name, num_classes=43, max_test=None, **net, **where)
        return {"train": signs.originals, "validation": signs.held_out, "test": signs.test_set}
    return {next(iter(catalogue.CARDS[name].images)): CLASSES[name](**where).load}


def demo_parts() -> Parts:
    """The demo's drawn signs, and its outliers."""
    demo = Demo(name="demo", num_classes=10, mean=NO_NET, std=NO_NET, num_train=400, num_test=400)
    return {"train": demo.train_set, "test": demo.test_set, "outliers": DemoOutliers(count=200).load}


def own_parts(path: Path) -> Parts:
    """The images of a folder, an `.npy` or an `.npz` of one's own."""
    if path.suffix == ".npz":
        return {"images": lambda: read_arrays(path.expanduser().absolute())}
    source = NpyImages(path=str(path)) if path.suffix == ".npy" else ImageFolder(path=str(path))
    return {"images": source.load}
