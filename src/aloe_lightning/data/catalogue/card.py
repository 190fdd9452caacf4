"""Facts about a data set that are known before any of it is read. Imports no torch."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from textwrap import fill
from typing import Literal

Role = Literal["in-distribution", "outliers", "OOD test"]
Fit = Literal["cover", "crop", "stretch"]
"""How a picture becomes 32x32: short side resized, then centre-cropped; centre-cropped only; resized as a whole."""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """One file that is downloaded, verified and, if it is a `.zip` or `.tar*`, extracted.

    Attributes:
        url: address of the download.
        file: file name; a copy in the data root under this name is used instead of a download.
        md5: published MD5 sum; None if none is published.
        provides: files and folders that it provides, paths under the data root; each appears completely or not at all.
        into: folder under the data root to which the archive's paths, or a plain file, are relative.
        limit: largest size in bytes of the extracted files.
    """

    url: str
    file: str
    md5: str | None
    provides: tuple[str, ...]
    into: str = ""
    limit: int = 2_000_000_000

    @property
    def packed(self) -> bool:
        """True if the file has to be extracted."""
        return self.file.endswith((".zip", ".tar", ".tar.gz", ".tgz"))


@dataclass(frozen=True, kw_only=True)
class Page:
    """Description of a set in prose. The summary starts with a one-line sentence; each line is a paragraph."""

    summary: str
    images: str
    classes: str
    split: str
    source: str
    terms: str
    citation: str

    def __str__(self) -> str:
        sections = [
            fill(f"{name.capitalize()}: {getattr(self, name)}", 116, subsequent_indent="    ", break_on_hyphens=False)
            for name in [entry.name for entry in fields(self)[1:]]
        ]
        return "\n\n".join([*(fill(line, 110) for line in self.summary.splitlines()), "\n".join(sections)])


@dataclass(frozen=True, kw_only=True)
class DatasetCard:
    """Facts about a named data set, read from its YAML file in the catalogue.

    Attributes:
        name: name in the config and on the command line, the file's name.
        title: name in papers.
        roles: uses of the set.
        images: number of images by split, as published.
        layouts: alternatives of the files and folders under the data root, the preferred one first.
        page: description in prose.
        archives: downloads; empty if the terms or a login forbid them.
        manual_instructions: how to obtain the set without a download.
        reader: class in `aloe_lightning.data` that reads the set.
        fit: how a picture becomes 32x32; None if the set consists of arrays.
        sampled: folders of pictures from which a fixed sample is drawn, of as many pictures as the test split has.
        num_classes: number of classes.
        mean: channel means in [0, 1] for the net's normalisation.
        std: channel standard deviations in [0, 1].
        sums: published MD5 sums of the extracted files, by split and path under the data root; empty if there are none.
        file_images: number of images in single files, by path under the data root.
    """

    name: str
    title: str
    roles: tuple[Role, ...]
    images: Mapping[str, int]
    layouts: tuple[tuple[str, ...], ...]
    page: Page
    archives: tuple[Archive, ...] = ()
    manual_instructions: str = ""
    reader: str = "PictureSet"
    fit: Fit | None = None
    sampled: tuple[str, ...] = ()
    num_classes: int | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    sums: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    file_images: Mapping[str, int] = field(default_factory=dict)

    def layout(self, root: Path) -> tuple[str, ...] | None:
        """Return the first layout of which everything exists under the data root; None if there is none."""
        return next((paths for paths in self.layouts if not missing_paths(paths, root)), None)

    def how_to_obtain(self, root: Path) -> str:
        """Return how to obtain the set if it does not exist."""
        return f"{self.command(root)} downloads it" if self.archives else self.manual_instructions

    def command(self, root: Path) -> str:
        """Return the command that downloads the set."""
        return f"`python -m aloe_lightning.data prepare {self.name} --root {shlex.quote(str(root))}`"


def missing_paths(paths: tuple[str, ...], root: Path) -> list[str]:
    """Return the paths under a root at which there is neither a file nor a folder that is not empty."""
    return [path for path in paths if not ((root / path).is_file() or any((root / path).glob("*")))]
