"""Makes a named set stand under the data root: fetched, verified, unpacked, put in place whole. Imports no torch."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from aloe_lightning.data.catalogue.card import Archive, Card
from aloe_lightning.data.download.unpack import MB, BrokenArchive, UnsafeArchive, unpack
from aloe_lightning.errors import UserError
from aloe_lightning.runtime.progress import Bar, PlainLines, meter
from aloe_lightning.storage.files import file_lock

TIMEOUT = 30.0  # seconds that a host may be silent


class DownloadError(UserError):
    """A file could not be fetched, or not to its end."""


class ChecksumError(UserError):
    """A file is not the one whose MD5 sum was published."""


class DiskFull(UserError):
    """There is no room to fetch or to unpack."""


def prepare(card: Card, root: Path) -> list[str]:
    """Make a set stand under the data root in its official layout; what is there already is never touched.

    After any fault nothing partial stands at a final place, and a further call starts afresh.

    Args:
        card: the set.
        root: the data root; made if it is not there.

    Returns:
        What was done, line by line.

    Raises:
        UserError: if the set has to be placed by hand, something else is in its way, or the root cannot be written.
        DownloadError: if its host does not hand it out.
        ChecksumError: if what came, or what was placed by hand, is not the official file.
        BrokenArchive: if that cannot be unpacked, or lacks what it should bring.
        UnsafeArchive: if it holds links, ways out of its folder, or too much.
        DiskFull: if there is no room.
    """
    root = root.expanduser().absolute()
    there = [f"{card.title} was there already, in {root}"]
    if card.layout(root):
        return there
    if not card.archives:
        raise UserError(f"{card.title} cannot be fetched: {card.by_hand}")
    before = [path for archive in card.archives for path in archive.brings if os.path.lexists(root / path)]
    again = f"run {card.command(root)} again"
    try:
        with _workplace(card, root) as work:
            if card.layout(root):  # by the job that this one waited for
                return there
            done = [line for archive in card.archives for line in _bring(card.title, archive, root, work, again)]
    except OSError as error:  # the work is cleaned up by now: the room that is free is the room there is
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            files = ", ".join(archive.file for archive in card.archives)
            place = next(path for path in (root, *root.parents) if path.exists())
            free = f"{shutil.disk_usage(place).free:,} bytes are free in {place}"
            raise DiskFull(
                f"{card.title}: no room to fetch and unpack {files}, {free}; make room and {again}"
            ) from error
        raise UserError(f"{card.title} cannot be put into {root} ({error}); mend that and {again}") from error
    if not card.layout(root):
        raise UserError(
            f"{card.title} is incomplete in {root}, and what stands there is never overwritten: "
            f"move {', '.join(before)} away and {again}"
        )
    return done


@contextmanager
def _workplace(card: Card, root: Path) -> Iterator[Path]:
    """A folder for temporary files, on the disk of the root: one job at a time has it, empty; it goes at the end."""
    downloads = root / ".downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    work = downloads / card.name
    with file_lock(downloads / f"{card.name}.lock", f"fetching {card.title} into {root}"):
        try:
            shutil.rmtree(work, ignore_errors=True)  # of a job that was killed
            work.mkdir()
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _bring(title: str, archive: Archive, root: Path, work: Path, again: str) -> Iterator[str]:
    """Fetch, verify and unpack one archive unless all that it brings stands there; yields what was done."""
    missing = [path for path in archive.brings if not os.path.lexists(root / path)]
    if not missing:
        return
    by_hand, fresh = root / archive.file, work / f"from {archive.file}"
    placed = by_hand.is_file()
    file, origin = (by_hand, str(by_hand)) if placed else (work / archive.file, archive.url)
    try:
        if not placed:
            _download(archive, file)
        _verify(file, archive.md5, origin)
        yield f"{'took' if placed else 'fetched'} {origin}"
        if archive.packed:
            unpack(file, fresh, archive.limit)
        else:
            fresh.mkdir()
            if placed:
                shutil.copyfile(file, fresh / archive.file)
            else:
                file.rename(fresh / archive.file)
        parts = {path: fresh / PurePosixPath(path).relative_to(archive.into) for path in missing}
        lacking = [path for path, part in parts.items() if not part.exists()]
        if lacking:
            raise BrokenArchive(f"{origin} does not hold {', '.join(lacking)}")
    except (DownloadError, ChecksumError, BrokenArchive, UnsafeArchive) as error:
        remedy = f"download {archive.file} from {archive.url} by other means, put it at {by_hand} and {again}"
        raise type(error)(f"{title}: {error}; {remedy}") from error
    for path, part in parts.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        part.rename(root / path)
        yield f"put {root / path} in place"


def _verify(file: Path, md5: str | None, origin: str) -> None:
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "md5").hexdigest()
    if md5 not in {None, found}:
        size = file.stat().st_size
        raise ChecksumError(f"{origin} is not the official file: {size:,} bytes with MD5 {found}, expected {md5}")


def _download(archive: Archive, file: Path) -> None:
    """Fetch an archive; a connection that fails is tried once more, from the start."""
    from pooch import HTTPDownloader
    from requests import HTTPError, RequestException

    for last in (False, True):
        with closing(_DownloadBar(f"fetching {archive.file}")) as bar:
            plain = {"headers": {"Accept-Encoding": "identity"}, "hooks": {"response": _as_it_is}}
            get = HTTPDownloader(progressbar=bar, chunk_size=MB, timeout=TIMEOUT, **plain)
            try:
                get(archive.url, str(file), None)
                return
            except RequestException as error:
                if last or isinstance(error, HTTPError):
                    raise DownloadError(f"{archive.url} cannot be fetched ({_reason(error)})") from error


def _as_it_is(response: Any, **_: Any) -> None:
    # Some hosts label a .tar.gz as text in transport compression; requests would unpack it, and no sum would match.
    response.raw.headers.pop("Content-Encoding", None)


def _reason(error: BaseException) -> str:
    """The words of the first error of a chain, `Connection refused`: the later ones wrap it in names of classes."""
    while error.__context__:
        error = error.__context__
    return str(error) or type(error).__name__


class _DownloadBar:
    """Pooch's protocol: it sets `total`, updates in bytes, and in the end resets, updates to the total and closes."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.total = self.done = 0
        self.meter: PlainLines | Bar | None = None

    def update(self, size: int) -> None:
        """Count bytes, the last chunk as a full one; nothing is shown where the host does not say the total."""
        if self.meter is None and self.total:
            self.meter = meter(self.label, -(-self.total // MB), "MB")
        self.done += size
        if self.meter and self.done < self.total:
            self.meter.update(self.done // MB)

    def reset(self) -> None:
        """Start over."""
        self.done = 0

    def close(self) -> None:
        """Take the bar away; pooch does so only after a download that went well."""
        if self.meter:
            self.meter.update(-(-min(self.done, self.total) // MB))
            self.meter.close()
        self.meter = None
