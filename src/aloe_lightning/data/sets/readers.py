"""Readers by the name of a set or the path of custom images, for the data command."""

from pathlib import Path

from aloe_lightning import data
from aloe_lightning.data.catalogue import card_of
from aloe_lightning.data.images.files import ImageFolder, NpyImages
from aloe_lightning.data.sets.custom import read_arrays
from aloe_lightning.data.sets.demo import Demo, DemoOutliers
from aloe_lightning.data.sets.named import PictureSet, Splits


def named_splits(name: str, root: Path, *, verify: bool) -> Splits:
    """Return the functions that read the splits of a named set."""
    card = card_of(name)
    reader = getattr(data, card.reader)
    dataset = {"dataset": card.name} if reader is PictureSet else {}
    splits: Splits = reader(root=str(root), verify=verify, **dataset).splits()
    return splits


def demo_splits() -> Splits:
    """Return the functions that draw the demo's signs and outliers."""
    demo = Demo(num_train=400)
    return {"train": demo.train_set, "test": demo.test_set, "outliers": DemoOutliers(count=200).load}


def custom_splits(path: Path) -> Splits:
    """Return the function that reads a folder, an `.npy` or an `.npz` of custom images."""
    if path.suffix == ".npz":
        return {"images": lambda: read_arrays(path.expanduser().absolute())}
    source = NpyImages(path=str(path)) if path.suffix == ".npy" else ImageFolder(path=str(path))
    return {"images": source.load}
