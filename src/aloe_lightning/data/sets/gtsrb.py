"""German Traffic Sign Recognition Benchmark, balanced by augmentation as in the paper."""

import csv
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aloe_lightning.data.catalogue import sets as catalogue
from aloe_lightning.data.images.files import pictures_in, read_pictures
from aloe_lightning.data.images.integrity import read_pickle
from aloe_lightning.data.images.source import ImageSet, ImageSource, MappedImages, channels_first
from aloe_lightning.data.sets.balanced import BalancedImages, balanced_file, shares_kept
from aloe_lightning.data.sets.named import NamedSet
from aloe_lightning.data.sets.sign_warp import warp_signs
from aloe_lightning.errors import UserError

CLASSES = 43
UDACITY = {"train": 34_799, "valid": 4_410, "test": 12_630}


@dataclass(frozen=True, kw_only=True)
class GTSRB(NamedSet):
    """Photographs of German traffic signs, each resized as a whole to 32x32.

    Images: 26,640 for training in torchvision's layout (34,799 + 4,410 for validation in Udacity's), 12,630 for
        testing, of 15 to 250 pixels a side. Augmentation brings training to 10,000 a class: 430,000.
    Classes: 43 signs, of very unequal frequency.
    Split: tracks of about 30 frames show one sign from nearer and nearer, so that validation takes whole tracks. The
        paper tests on 10,000 of the test images, shuffled by scikit-learn with random_state=1: these very images.
    Source: https://benchmark.ini.rub.de/ in torchvision's layout under `gtsrb/` (360 MB); Udacity's `train.p`,
        `valid.p` and `test.p`, which the paper used, are read where they stand in `gtsrb/`.
    Terms: free for research.
    Citation: Stallkamp, Schlipsing, Salmen, Igel: Man vs. computer, Neural Networks 32, 2012.

    Attributes:
        name: as records and folders state it.
        num_classes: 43.
        mean: channel means in [0, 1], for the net's normalisation.
        std: channel standard deviations in [0, 1].
        augment: `offline` makes the balanced set once and keeps it in the cache (1.3 GB); `online` draws from the same
            law on the device, anew in every epoch; `none` trains on the originals, unbalanced.
        augment_outliers: pad-4 random crop and horizontal flip of the outliers.
        per_class: training images of each class.
        seed: of the offline augmentation.
        validation: share of the tracks of each class that is held out of training; Udacity's layout has its own.
        evaluate: the in-distribution images of the evaluation: the test set, or what is held out.
        max_test: size of the test sample; None for all.
    """

    name: str
    num_classes: int
    mean: Sequence[float]
    std: Sequence[float]
    augment: Literal["offline", "online", "none"] = "offline"
    augment_outliers: bool = True
    per_class: int = 10_000
    seed: int = 0
    validation: float = 0.1
    evaluate: Literal["test", "validation"] = "test"
    max_test: int | None = 10_000

    card = catalogue.GTSRB

    @property
    def split(self) -> str:
        """What the evaluation's in-distribution images are."""
        return self.evaluate

    def excluded_from_training(self) -> dict[str, ImageSet]:
        """What must not be trained on besides: the whole test set, and the tracks held out of training."""
        return {"test, all": self._test, "validation": self.held_out()}

    def train_set(self) -> ImageSource:
        """The training images: balanced, or the originals if `augment` is `none`."""
        originals = self.originals()
        assert originals.labels is not None
        if self.augment == "none":
            return originals
        missing = sorted(set(range(self.num_classes)) - set(originals.labels.tolist()))
        if missing:
            raise UserError(f"GTSRB in {self.folder} has no training images of the classes {missing}")
        if self.augment == "online":
            return BalancedImages(originals, self.per_class, self.seed)
        return balanced_file(originals, self.per_class, self.seed, warp_signs)

    def test_set(self) -> ImageSet:
        """The test images (or those held out of training, by `evaluate`) with labels."""
        if self.evaluate == "validation":
            held_out = self.held_out()
            if len(held_out) == 0:
                raise UserError("data.evaluate=validation wants data.validation above 0")
            return held_out
        images = self._test
        if self.max_test is None or self.max_test >= len(images):
            return images
        places = np.arange(len(images))
        np.random.RandomState(1).shuffle(places)  # what sklearn.utils.shuffle(random_state=1) does
        return images.pick(torch.from_numpy(np.sort(places[: self.max_test])))

    def augmented(self, images: Tensor, labels: Tensor, draws: torch.Generator) -> Tensor:
        """A training batch, uint8 (B, 3, 32, 32); `online`: as many of each class stay as are originals offline."""
        if self.augment != "online":
            return images
        kept = self._shares_kept.to(images.device)[labels]
        stays = torch.rand(len(images), generator=draws, device=images.device) < kept
        return torch.where(stays.view(-1, 1, 1, 1), images, warp_signs(images, draws))

    def originals(self) -> ImageSet:
        """The training images as they were photographed, with labels."""
        return self._split[0]

    def held_out(self) -> ImageSet:
        """The images of the tracks that are held out of training, with labels."""
        return self._split[1]

    @cached_property
    def _shares_kept(self) -> Tensor:
        return shares_kept(self.originals(), self.per_class, self.num_classes)

    @cached_property
    def _udacity(self) -> bool:
        return self.card.layout(self.folder) == self.card.layouts[1]

    @cached_property
    def _split(self) -> tuple[ImageSet, ImageSet]:
        """Originals for training, and those held out."""
        place = self.place()
        if self._udacity:
            return self._pickled("train"), self._pickled("valid")
        folder = place[0]
        files = pictures_in(folder)
        if not files:
            raise UserError(f"no images in {folder}: {self.card.remedy(self.folder)}")
        self.expect("training images", len(files), self.card.images["train"])
        labels, tracks = np.array([_class_and_track(file) for file in files], np.int64).reshape(-1, 2).T
        images = _in_memory(read_pictures(files, folder, "stretch"), labels)
        held_out = torch.from_numpy(held_out_frames(labels, tracks, self.validation))
        return images.pick(torch.nonzero(~held_out).ravel()), images.pick(torch.nonzero(held_out).ravel())

    @cached_property
    def _test(self) -> ImageSet:
        place = self.place()
        if self._udacity:
            return self._pickled("test")
        folder, table = place[1:]
        try:
            with table.open(newline="") as stream:
                rows = [(row["Filename"], int(row["ClassId"])) for row in csv.DictReader(stream, delimiter=";")]
        except (KeyError, TypeError, ValueError, csv.Error) as error:  # TypeError: a row that ends too early
            raise UserError(f"cannot read {table}: wants the columns Filename and ClassId ({error})") from error
        missing = [name for name, _ in rows if not (folder / name).is_file()]
        if missing or not rows:
            raise UserError(f"{folder} lacks {len(missing)} of the {len(rows)} images of {table}: {missing[:3]}")
        self.expect("test images", len(rows), self.card.images["test"])
        labels = _checked(np.array([label for _, label in rows], np.int64), table)
        return _in_memory(read_pictures([folder / name for name, _ in rows], folder, "stretch"), labels)

    def _pickled(self, split: str) -> ImageSet:
        file = self.folder / "gtsrb" / f"{split}.p"
        content = read_pickle(file, "Udacity's GTSRB")
        images, labels = content.get("features"), np.asarray(content.get("labels"))
        whole = labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer)
        wanted = (labels.size, 32, 32, 3)
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape != wanted or not whole:
            raise UserError(f"{file} is not Udacity's GTSRB: wants features (N, 32, 32, 3) in uint8, and labels (N,)")
        self.expect(f"images in {split}.p", len(images), UDACITY[split])
        return ImageSet(channels_first(images), torch.from_numpy(_checked(labels.astype(np.int64), file)))


def held_out_frames(labels: NDArray[np.int64], tracks: NDArray[np.int64], share: float) -> NDArray[np.bool_]:
    """Which frames are held out: whole tracks, `share` of each class's but at least one, never all.

    Args:
        labels: classes (N,).
        tracks: number of the track within its class (N,).
        share: in [0, 1).

    Returns:
        (N,); the same tracks on every machine: those whose names have the smallest SHA-256.
    """
    of_class: dict[int, set[int]] = defaultdict(set)
    for label, track in zip(labels.tolist(), tracks.tolist(), strict=True):
        of_class[label].add(track)
    chosen = set()
    for label, numbers in of_class.items():
        order = sorted(numbers, key=lambda number: hashlib.sha256(f"{label}/{number}".encode()).digest())
        count = min(max(round(share * len(order)), 1), len(order) - 1) if share else 0
        chosen |= {(label, number) for number in order[:count]}
    return np.array([pair in chosen for pair in zip(labels.tolist(), tracks.tolist(), strict=True)], bool)


def _class_and_track(file: Path) -> tuple[int, int]:
    try:
        label, track = int(file.parent.name), int(file.stem.split("_")[0])
    except ValueError as error:
        raise UserError(f"{file} is not named <class>/<track>_<frame>.ppm as GTSRB's training images are") from error
    if not 0 <= label < CLASSES:
        raise UserError(f"{file} is of class {label}; GTSRB has 0 to {CLASSES - 1}")
    return label, track


def _checked(labels: NDArray[np.int64], file: Path) -> NDArray[np.int64]:
    if len(labels) and not 0 <= labels.min() <= labels.max() < CLASSES:
        raise UserError(f"{file} has classes outside 0..{CLASSES - 1}")
    return labels


def _in_memory(images: MappedImages, labels: NDArray[np.int64]) -> ImageSet:
    return ImageSet(channels_first(images.rows), torch.from_numpy(labels))
