"""Readers by the name of a set or the path of custom images, for the data command."""

from pathlib import Path

from aloe_lightning import data
from aloe_lightning.data.catalogue import card_of
from aloe_lightning.data.images.files import ImageFolder, NpyImages
from aloe_lightning.data.images.source import ImageSet
from aloe_lightning.data.sets.custom import read_arrays
from aloe_lightning.data.sets.demo import Demo, DemoOutliers
from aloe_lightning.data.sets.named import PictureSet, Splits
from aloe_lightning.errors import UserError


def splits_of(subject: str | Path, root: Path, *, verify: bool) -> Splits:
    """Return the functions that read the splits of `demo`, a named set, or a path to custom images."""
    if isinstance(subject, Path):
        if subject.suffix == ".npz":
            return {"images": lambda: _arrays_from_0(subject.expanduser().absolute())}
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


def _arrays_from_0(file: Path) -> ImageSet:
    """Read labelled arrays, or raise a UserError if their labels are counted from 1, which a training refuses."""
    images = read_arrays(file)
    assert images.labels is not None
    if int(images.labels.min()) == 1:
        raise UserError(f"{file}: no label is 0, the smallest is 1: count classes from 0")
    return images
