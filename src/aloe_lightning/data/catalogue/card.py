"""What is known of a data set before any of it is read. Imports no torch."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Role = Literal["in-distribution", "outliers", "OOD test"]

GB = 10**9


@dataclass(frozen=True, kw_only=True)
class Archive:
    """One file that is fetched, verified and, if it is a `.zip` or `.tar*`, unpacked.

    Attributes:
        url: where it comes from.
        file: its name; a copy put into the data root by hand under this name is taken instead of a download.
        md5: the published sum, or None where none is published.
        into: folder under the data root that the archive's paths start from; for a plain file, the folder it goes to.
        brings: what it brings, as paths under the data root: each appears whole or not at all.
        limit: bytes that it may unpack to.
    """

    url: str
    file: str
    md5: str | None
    brings: tuple[str, ...]
    into: str = ""
    limit: int = 2 * GB

    @property
    def packed(self) -> bool:
        """Whether there is something to unpack."""
        return self.file.endswith((".zip", ".tar", ".tar.gz", ".tgz"))


@dataclass(frozen=True, kw_only=True)
class Card:
    """A named data set.

    Attributes:
        name: as the config and the command line call it.
        title: as papers call it.
        roles: what it serves as.
        images: number of images by split, as published.
        layouts: alternatives of what stands under the data root when the set is there, the preferred one first.
        archives: what `prepare` fetches; empty where the terms or a login forbid it.
        by_hand: what to do instead, where nothing can be fetched.
    """

    name: str
    title: str
    roles: tuple[Role, ...]
    images: Mapping[str, int]
    layouts: tuple[tuple[str, ...], ...]
    archives: tuple[Archive, ...] = field(default=())
    by_hand: str = ""

    def layout(self, root: Path) -> tuple[str, ...] | None:
        """The layout that is there in full; None if none is."""
        return next((paths for paths in self.layouts if all(stands(root / path) for path in paths)), None)

    def remedy(self, root: Path) -> str:
        """What to do when the set is not there."""
        if not self.archives:
            return self.by_hand
        return f"{self.command(root)} fetches it"

    def command(self, root: Path) -> str:
        """What fetches the set."""
        return f"`python -m aloe_lightning.data prepare {self.name} --root {shlex.quote(str(root))}`"


def stands(path: Path) -> bool:
    """Whether a file, or a folder with anything in it, is there."""
    return any(path.iterdir()) if path.is_dir() else path.is_file()
