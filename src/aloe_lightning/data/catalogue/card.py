"""Facts about a data set that are known before any of it is read. Imports no torch."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import TextWrapper, fill
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
        md5: published MD5 sum.
        provides: files and folders that it provides, paths under the data root; each appears completely or not at all.
        into: folder under the data root to which the archive's paths, or a plain file, are relative.
    """

    url: str
    file: str
    md5: str
    provides: tuple[str, ...]
    into: str = ""

    @property
    def packed(self) -> bool:
        """True if the file has to be extracted."""
        return self.file.endswith((".zip", ".tar", ".tar.gz", ".tgz"))


@dataclass(frozen=True, kw_only=True)
class DatasetCard:
    """Facts about a named data set, read from its YAML file in the catalogue.

    Attributes:
        name: name in the config and on the command line, the file's name.
        title: name in papers.
        roles: uses of the set.
        images: number of images by split, as published.
        layouts: alternatives of the files and folders under the data root, the preferred one first.
        page: description in prose, by heading; each line of the summary is a paragraph.
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
    page: Mapping[str, str]
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

    def description(self) -> str:
        """Return the page, filled to the width of a terminal."""
        paragraphs = [fill(line, 110) for line in self.page["summary"].splitlines()]
        filler = TextWrapper(116, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
        headings = [heading for heading in self.page if heading != "summary"]
        sections = [filler.fill(f"{heading.capitalize()}: {self.page[heading]}") for heading in headings]
        return "\n\n".join([*paragraphs, "\n".join(sections)])

    def how_to_obtain(self, root: Path) -> str:
        """Return how to obtain the set if it does not exist."""
        return f"{self.command(root)} downloads it" if self.archives else self.manual_instructions

    def command(self, root: Path, *others: str) -> str:
        """Return the command that downloads the set, and other sets by name."""
        names = " ".join([self.name, *others])
        return f"`python -m aloe_lightning.data prepare {names} --root {shlex.quote(str(root))}`"

    def absence(self, root: Path, paths: tuple[str, ...] | None = None) -> str:
        """Say which files of the set are missing under an absolute data root, and how to obtain them; "" if none is.

        Args:
            root: the data root.
            paths: required paths under the root; None for any complete layout.
        """
        if paths is None:
            paths = self.layout(root) or self.layouts[0]
        missing, preferred = missing_paths(paths, root), self.layouts[0]
        if not missing:
            return ""
        state = f"is incomplete in {root}, {', '.join(missing)} missing"
        if len(missing_paths(preferred, root)) == len(preferred):
            places = " nor ".join(layout[0] for layout in self.layouts)
            state = f"is not there: no {places} in {root}"
        return f"{self.title} {state}: {self.how_to_obtain(root)}"


def missing_paths(paths: tuple[str, ...], root: Path) -> list[str]:
    """Return the paths under a root at which there is neither a file nor a folder that is not empty."""
    return [path for path in paths if not ((root / path).is_file() or any((root / path).glob("*")))]
