"""Base classes for readers of the data sets of the catalogue, with verification of files and counts."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from aloe_lightning.data.catalogue import card_of
from aloe_lightning.data.catalogue.card import DatasetCard, exists
from aloe_lightning.data.images.files import pictures_in, read_pictures
from aloe_lightning.data.images.integrity import require_files
from aloe_lightning.data.images.source import ImageSource, MappedImages
from aloe_lightning.errors import UserError
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import LOCATION, Text

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
        """Return the paths of the first layout whose files all exist.

        Raises:
            UserError: naming the missing files and how to obtain them.
        """
        layout = self.card.layout(self.data_root)
        if layout is not None:
            return tuple(self.data_root / path for path in layout)
        preferred = self.card.layouts[0]
        missing = [path for path in preferred if not exists(self.data_root / path)]
        if len(missing) < len(preferred):
            state = f"is incomplete in {self.data_root}, {', '.join(missing)} missing"
        else:
            state = f"is not there: no {' nor '.join(paths[0] for paths in self.card.layouts)} in {self.data_root}"
        raise UserError(f"{self.card.title} {state}: {self.remedy()}")

    def verified_files(self, split: str) -> list[Path]:
        """Return the files of a split after verifying their published MD5 sums.

        Raises:
            UserError: naming missing or altered files.
        """
        sums = self.card.sums[split]
        files = [self.data_root / path for path in sums]
        expected = {file.name: md5 for file, md5 in zip(files, sums.values(), strict=True)}
        require_files(self.card.title, files[0].parent, expected, verify=self.verify, remedy=self.remedy())
        return files

    def check_count(self, unit: str, count: int, published: int) -> None:
        """Compare a number of images with the published one, if the set is verified.

        Raises:
            UserError: if they differ.
        """
        if self.verify and count != published:
            again = f"move it away and run {self.card.command(self.data_root)}, or " if self.card.archives else ""
            raise UserError(
                f"{self.card.title} in {self.data_root}: {count:,} {unit} where the official set has {published:,}; "
                f"{again}set paths.verify=false if you know this copy"
            )

    def remedy(self) -> str:
        """Return how to obtain the set if it does not exist."""
        return f"{self.card.remedy(self.data_root)}, or set paths.data"


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


@checked
@dataclass(frozen=True, kw_only=True)
class PictureSet(NamedUnlabelledSet):
    """An OOD test set that consists of picture files in a folder; the catalogue has its facts.

    Attributes:
        dataset: name in the catalogue.
    """

    dataset: Text  # type: ignore[misc]

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
            raise UserError(f"{self.card.title}: no images in {folder}: remove it, then {self.remedy()}")
        assert self.card.fit is not None
        return read_pictures(files, folder, self.card.fit)
