"""Facts about a data set that are known before any of it is read. Imports no torch."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from textwrap import fill
from typing import Literal

Role = Literal["in-distribution", "outliers", "OOD test"]
Fit = Literal["cover", "crop", "stretch"]
"""How a picture becomes 32x32: short side resized, then centre-cropped; centre-cropped only; resized as a whole."""

GB = 10**9


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
    limit: int = 2 * GB

    @property
    def packed(self) -> bool:
        """True if the file has to be extracted."""
        return self.file.endswith((".zip", ".tar", ".tar.gz", ".tgz"))


@dataclass(frozen=True, kw_only=True)
class Page:
    """A description for people. The summary's first line is a sentence; every further line is a paragraph."""

    summary: str
    images: str
    classes: str
    split: str
    source: str
    terms: str
    citation: str

    def __str__(self) -> str:
        paragraphs = (fill(line, 110) for line in self.summary.splitlines())
        return "\n\n".join([*paragraphs, "\n".join(self._sections())])

    def _sections(self) -> Iterator[str]:
        for name in (entry.name for entry in fields(self)[1:]):
            text = f"{name.capitalize()}: {getattr(self, name)}"
            yield fill(text, 116, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


@dataclass(frozen=True, kw_only=True)
class DatasetCard:
    """Facts about a named data set, read from its YAML file in the catalogue.

    Attributes:
        name: name in the config and on the command line, the file's name.
        title: name in papers.
        roles: uses of the set.
        images: number of images by split, as published.
        layouts: alternatives of the files and folders under the data root, the preferred one first.
        page: description for people.
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
        return next((paths for paths in self.layouts if all(exists(root / path) for path in paths)), None)

    def remedy(self, root: Path) -> str:
        """Return how to obtain the set if it does not exist."""
        return f"{self.command(root)} downloads it" if self.archives else self.manual_instructions

    def command(self, root: Path) -> str:
        """Return the command that downloads the set."""
        return f"`python -m aloe_lightning.data prepare {self.name} --root {shlex.quote(str(root))}`"


def exists(path: Path) -> bool:
    """Return whether a file, or a folder that is not empty, exists."""
    return any(path.iterdir()) if path.is_dir() else path.is_file()
