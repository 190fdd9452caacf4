"""German Traffic Sign Recognition Benchmark, balanced by augmentation as in the paper."""

import csv
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aloe_lightning.data.images.files import pictures_in, read_pictures
from aloe_lightning.data.images.integrity import read_pickle
from aloe_lightning.data.images.source import ImageSet, ImageSource, channels_first
from aloe_lightning.data.sets.balanced import BalancedImages, balanced_file, shares_of_originals
from aloe_lightning.data.sets.named import NamedInDistribution, Splits, checked_labels
from aloe_lightning.data.sets.sign_warp import warp_signs
from aloe_lightning.errors import UserError
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import TEST_IMAGES, Fraction, NonNegativeInt, PositiveInt


@checked
@dataclass(frozen=True, kw_only=True)
class GTSRB(NamedInDistribution):
    """Photographs of German traffic signs as in-distribution data.

    Attributes:
        augment: `offline` makes the balanced set once and stores it in the cache (1.3 GB); `online` draws from the same
            distribution on the device, anew in every epoch; `none` trains on the originals, unbalanced.
        augment_outliers: pad outliers by 4 pixels, crop them at random and flip them at random.
        per_class: training images of each class.
        seed: seed of the offline augmentation.
        validation: share of the tracks of each class that is held out of training; Udacity's layout has its own.
        evaluate: in-distribution images of the evaluation: the test set, or the images held out.
        max_test: size of the test sample; null: all.
    """

    dataset: ClassVar[str] = "gtsrb"

    augment: Literal["offline", "online", "none"] = "offline"
    augment_outliers: bool = True
    per_class: PositiveInt = 10_000
    seed: NonNegativeInt = 0
    validation: Fraction = 0.1
    evaluate: Annotated[Literal["test", "validation"], TEST_IMAGES] = "test"
    max_test: Annotated[PositiveInt | None, TEST_IMAGES] = 10_000

    @property
    def split(self) -> str:
        """Name of the in-distribution images of the evaluation."""
        return self.evaluate

    def excluded_from_training(self) -> dict[str, ImageSet]:
        """Return the complete test set, and the tracks held out of training."""
        return {"test, all": self._test, "validation": self.held_out()}

    def train_set(self) -> ImageSource:
        """Return the training images: balanced, or the originals if `augment` is `none`."""
        originals = self.originals()
        assert originals.labels is not None
        if self.augment == "none":
            return originals
        missing = sorted(set(range(self.num_classes)) - set(originals.labels.tolist()))
        if missing:
            raise UserError(f"GTSRB in {self.data_root} has no training images of the classes {missing}")
        if self.augment == "online":
            return BalancedImages(originals, self.per_class, self.seed)
        return balanced_file(originals, self.per_class, self.seed, warp_signs)

    def test_set(self) -> ImageSet:
        """Return the test images (or those held out of training, by `evaluate`) with labels."""
        if self.evaluate == "validation":
            held_out = self.held_out()
            if len(held_out) == 0:
                raise UserError("data.evaluate=validation requires data.validation above 0")
            return held_out
        if self.max_test is None or self.max_test >= len(self._test):
            return self._test
        order = np.random.RandomState(1).permutation(len(self._test))  # as sklearn.utils.shuffle(random_state=1)
        return self._test.pick(torch.from_numpy(np.sort(order[: self.max_test])))

    def augmented(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Return a training batch, uint8 (B, 3, 32, 32); `online`: with as many originals of each class as offline."""
        if self.augment != "online":
            return images
        share = self._shares_of_originals.to(images.device)[labels]
        unchanged = torch.rand(len(images), generator=generator, device=images.device) < share
        return torch.where(unchanged.view(-1, 1, 1, 1), images, warp_signs(images, generator))

    def originals(self) -> ImageSet:
        """Return the training images without augmentation, with labels."""
        return self._originals_and_held_out[0]

    def held_out(self) -> ImageSet:
        """Return the images of the tracks that are held out of training, with labels."""
        return self._originals_and_held_out[1]

    def splits(self) -> Splits:
        """Return the functions that read the splits as published, the training images without augmentation."""
        return {"train": self.originals, "validation": self.held_out, "test": lambda: self._test}

    @cached_property
    def _shares_of_originals(self) -> Tensor:
        return shares_of_originals(self.originals(), self.per_class, self.num_classes)

    @property
    def _has_udacity_layout(self) -> bool:
        return self.card.layout(self.data_root) == self.card.layouts[1]

    @cached_property
    def _originals_and_held_out(self) -> tuple[ImageSet, ImageSet]:
        folder = self.paths()[0]
        if self._has_udacity_layout:
            return self._read_udacity("train"), self._read_udacity("valid")
        files = pictures_in(folder)
        if not files:
            raise UserError(f"no images in {folder}: {self.how_to_obtain()}")
        self.check_count("training images", len(files), self.card.images["train"])
        labels, tracks = np.array([self._class_and_track(file) for file in files], np.int64).reshape(-1, 2).T
        images = self._read_pictures(files, folder, torch.from_numpy(labels))
        held_out = torch.from_numpy(held_out_frames(labels, tracks, self.validation))
        return images.pick(torch.nonzero(~held_out).ravel()), images.pick(torch.nonzero(held_out).ravel())

    @cached_property
    def _test(self) -> ImageSet:
        paths = self.paths()
        if self._has_udacity_layout:
            return self._read_udacity("test")
        folder, table = paths[1:]
        try:
            with table.open(newline="") as stream:
                rows = [(row["Filename"], int(row["ClassId"])) for row in csv.DictReader(stream, delimiter=";")]
            missing = [name for name, _ in rows if not (folder / name).is_file()]
        except (KeyError, TypeError, ValueError, OSError, csv.Error) as error:  # a row that ends early, an endless name
            raise UserError(f"cannot read {table}: it must have the columns Filename and ClassId ({error})") from error
        if missing or not rows:
            raise UserError(f"{folder} lacks {len(missing)} of the {len(rows)} images of {table}: {missing[:3]}")
        self.check_count("test images", len(rows), self.card.images["test"])
        labels = checked_labels([label for _, label in rows], self.num_classes, table)
        return self._read_pictures([folder / name for name, _ in rows], folder, labels)

    def _read_pictures(self, files: list[Path], folder: Path, labels: Tensor) -> ImageSet:
        assert self.card.fit is not None
        return ImageSet(channels_first(read_pictures(files, folder, self.card.fit).rows), labels)

    def _read_udacity(self, split: str) -> ImageSet:
        path = f"gtsrb/{split}.p"
        file = self.data_root / path
        content = read_pickle(file, "Udacity's GTSRB")
        images, labels = content.get("features"), checked_labels(content.get("labels"), self.num_classes, file)
        shape = (len(labels), 32, 32, 3)
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape != shape:
            raise UserError(f"{file} is not Udacity's GTSRB: features must be uint8 (N, 32, 32, 3) with labels (N,)")
        self.check_count(f"images in {split}.p", len(images), self.card.file_images[path])
        return ImageSet(channels_first(images), labels)

    def _class_and_track(self, file: Path) -> tuple[int, int]:
        try:
            label, track = int(file.parent.name), int(file.stem.split("_")[0])
        except ValueError as error:
            raise UserError(f"{file} is not named <class>/<track>_<frame>.ppm as GTSRB's training images") from error
        if not 0 <= label < self.num_classes:
            raise UserError(f"{file} is of class {label}; GTSRB has 0 to {self.num_classes - 1}")
        return label, track


def held_out_frames(labels: NDArray[np.int64], tracks: NDArray[np.int64], share: float) -> NDArray[np.bool_]:
    """Choose the frames to hold out: complete tracks, `share` of each class's but at least one, never all.

    Args:
        labels: classes (N,).
        tracks: number of the track within its class (N,).
        share: in [0, 1).

    Returns:
        (N,); the same tracks on every machine: those whose names have the smallest SHA-256.
    """
    held_out = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = labels == label
        order = sorted(np.unique(tracks[members]), key=lambda n: hashlib.sha256(f"{label}/{n}".encode()).digest())
        count = min(max(round(share * len(order)), 1), len(order) - 1) if share else 0
        held_out |= members & np.isin(tracks, order[:count])
    return held_out
