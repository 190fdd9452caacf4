"""Base classes for readers of the data sets of the catalogue, with verification of files and counts."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from aloe_lightning.data.catalogue import card_of
from aloe_lightning.data.catalogue.card import DatasetCard
from aloe_lightning.data.images.files import pictures_in, read_pictures
from aloe_lightning.data.images.integrity import verify_md5
from aloe_lightning.data.images.source import ImageSource, MappedImages
from aloe_lightning.errors import UserError
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import LOCATION, PositiveInt, Text

Splits = dict[str, Callable[[], ImageSource]]
"""A loader for each published split, by name."""


@checked
@dataclass(frozen=True, kw_only=True)
class NamedSet(ABC):
    """A set of the catalogue.

    Attributes:
        root: the data root, which contains the set's official folder.
        verify: compare files with the published MD5 sums and counts; false for a copy that is known to differ, such as
            a part of the set.
    """

    dataset: ClassVar[str]
    """Name in the catalogue."""

    root: Annotated[str, LOCATION]
    verify: bool = True

    @abstractmethod
    def splits(self) -> Splits:
        """Return a loader for each published split, for the data command."""

    @property
    def card(self) -> DatasetCard:
        """Facts about the set."""
        return card_of(self.dataset)

    @property
    def data_root(self) -> Path:
        """The data root, absolute."""
        return Path(self.root).expanduser().absolute()

    def paths(self) -> tuple[Path, ...]:
        """Return the paths of the first complete layout, or raise a UserError naming what is missing."""
        return self._existing(self.card.layout(self.data_root) or self.card.layouts[0])

    def verified_files(self, split: str) -> tuple[Path, ...]:
        """Return the files of a split, or raise a UserError naming those missing or with another MD5 sum."""
        sums = self.card.sums[split]
        files = self._existing(tuple(sums))
        if self.verify:
            for file, md5 in zip(files, sums.values(), strict=True):
                verify_md5(file, md5)
        return files

    def _existing(self, paths: tuple[str, ...]) -> tuple[Path, ...]:
        if absence := self.card.absence(self.data_root, paths):
            raise UserError(f"{absence}, or set paths.data")
        return tuple(self.data_root / path for path in paths)

    def check_count(self, unit: str, count: int, published: int) -> None:
        """If `verify`, raise a UserError where a number of images is not the published one."""
        if self.verify and count != published:
            again = f"move it away and run {self.card.command(self.data_root)}, or " if self.card.archives else ""
            raise UserError(
                f"{self.card.title} in {self.data_root}: {count:,} {unit} where the official set has {published:,}; "
                f"{again}set paths.verify=false if you know this copy"
            )

    def how_to_obtain(self) -> str:
        """Return how to obtain the set if it does not exist."""
        return f"{self.card.how_to_obtain(self.data_root)}, or set paths.data"


class NamedUnlabelledSet(NamedSet):
    """Outliers or an OOD test set of the catalogue."""

    @abstractmethod
    def load(self) -> ImageSource:
        """Return the images."""

    def splits(self) -> Splits:
        """Return the loader of the only split."""
        return {next(iter(self.card.images)): self.load}


class NamedInDistribution(NamedSet):
    """An in-distribution set of the catalogue, which states its classes and the net's normalisation."""

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        assert self.card.num_classes is not None
        return self.card.num_classes

    @property
    def mean(self) -> tuple[float, float, float]:
        """Channel means in [0, 1]."""
        assert self.card.mean is not None
        return self.card.mean

    @property
    def std(self) -> tuple[float, float, float]:
        """Channel standard deviations in [0, 1]."""
        assert self.card.std is not None
        return self.card.std


def checked_labels(values: Any, num_classes: int, file: Path) -> Tensor:
    """Return labels as int64 (N,), or raise a UserError if they are not whole numbers from 0 to K - 1."""
    try:
        labels = np.asarray(values)
        if labels.ndim != 1 or not (np.issubdtype(labels.dtype, np.integer) or labels.size == 0):
            raise ValueError(f"{labels.dtype} {labels.shape}")
    except ValueError as error:  # numpy's own where the lengths of nested lists differ
        raise UserError(f"{file} has no labels: they must be a list of whole numbers ({error})") from error
    if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
        raise UserError(f"{file} has labels outside 0..{num_classes - 1}")
    return torch.from_numpy(labels.astype(np.int64))


@checked
@dataclass(frozen=True, kw_only=True)
class PictureSet(NamedUnlabelledSet):
    """An OOD test set that consists of picture files in a folder; the catalogue has its facts.

    Attributes:
        dataset: name in the catalogue.
        size: height and width that pictures are resized to; the config takes it from data.size.
    """

    dataset: Text  # type: ignore[misc]
    size: PositiveInt = 32

    def __post_init__(self) -> None:
        if self.card.fit is None or "OOD test" not in self.card.roles:
            raise UserError(f"{self.dataset} is not an OOD test set of picture files: it is read by {self.card.reader}")

    def load(self) -> MappedImages:
        """Return all images, or a fixed subsample (smallest SHA-256 of the file names); decoded images are cached."""
        (folder,) = self.paths()
        files, count = pictures_in(folder), self.card.images["test"]
        if folder.relative_to(self.data_root).as_posix() in self.card.sampled:
            # The inner sort selects by hash, the outer one restores the order of the names.
            files = sorted(sorted(files, key=lambda file: hashlib.sha256(file.name.encode()).digest())[:count])
        self.check_count("images", len(files), count)
        if not files:
            raise UserError(f"{self.card.title}: no images in {folder}: remove it, then {self.how_to_obtain()}")
        assert self.card.fit is not None
        return read_pictures(files, folder, self.card.fit, self.size)
