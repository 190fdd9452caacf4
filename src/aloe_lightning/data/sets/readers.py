"""Readers by the name of a set or the path of custom images, for the data command."""

from pathlib import Path

from aloe_lightning import data
from aloe_lightning.data.catalogue import card_of
from aloe_lightning.data.images.files import ImageFolder, NpyImages
from aloe_lightning.data.sets.custom import read_arrays
from aloe_lightning.data.sets.demo import Demo, DemoOutliers
from aloe_lightning.data.sets.named import PictureSet, Splits


def splits_of(subject: str | Path, root: Path, *, verify: bool) -> Splits:
    """Return the functions that read the splits of `demo`, a named set, or a path to custom images."""
    if isinstance(subject, Path):
        if subject.suffix == ".npz":
            return {"images": lambda: read_arrays(subject.expanduser().absolute())}
        source = NpyImages(path=str(subject)) if subject.suffix == ".npy" else ImageFolder(path=str(subject))
        return {"images": source.load}
    if subject == "demo":
        demo = Demo(num_train=400)
        return {"train": demo.train_set, "test": demo.test_set, "outliers": DemoOutliers(count=200).load}
    card = card_of(subject)
    reader = getattr(data, card.reader)
    dataset = {"dataset": card.name} if reader is PictureSet else {}
    splits: Splits = reader(root=str(root), verify=verify, **dataset).splits()
    return splits
