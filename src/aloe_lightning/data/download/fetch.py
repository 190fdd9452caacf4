"""Download, verify and extract a data set, each part moved to its place when it is complete. Imports no torch."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from aloe_lightning.data.catalogue.card import Archive, DatasetCard
from aloe_lightning.data.download.unpack import MB, BrokenArchive, UnsafeArchive, unpack
from aloe_lightning.errors import UserError
from aloe_lightning.runtime.progress import Bar, PlainLines, progress_display
from aloe_lightning.storage.files import file_lock

TIMEOUT = 30.0  # seconds without an answer of the host


class DownloadError(UserError):
    """A file could not be downloaded completely."""


class ChecksumError(UserError):
    """A file has another MD5 sum than the published one."""


class DiskFull(UserError):
    """The disk has no space for the download or the extracted files."""


def prepare(card: DatasetCard, root: Path) -> list[str]:
    """Download, verify and extract a data set in its official layout; existing files are never changed.

    After any error nothing incomplete is at a final place, and a further call starts from the beginning.

    Args:
        card: the set.
        root: the data root; created if it does not exist.

    Returns:
        The steps done, one line each.

    Raises:
        UserError: if the set has to be obtained manually, other files are in its way, or the root cannot be written.
        DownloadError: if the download fails.
        ChecksumError: if the downloaded file, or a manually placed copy, is not the official file.
        BrokenArchive: if it cannot be extracted, or lacks files that it should provide.
        UnsafeArchive: if it has links, paths outside its folder, or excessive size.
        DiskFull: if the disk has no space.
    """
    root = root.expanduser().absolute()
    nothing_to_do = [f"{card.title} was there already, in {root}"]
    if card.layout(root):
        return nothing_to_do
    if not card.archives:
        raise UserError(f"{card.title} cannot be downloaded: {card.manual_instructions}")
    existing = [path for archive in card.archives for path in archive.provides if os.path.lexists(root / path)]
    again = f"run {card.command(root)} again"
    try:
        with _work_folder(card, root) as work:
            if card.layout(root):  # by the job that this one waited for
                return nothing_to_do
            steps = [line for archive in card.archives for line in _provide(card.title, archive, root, work, again)]
    except OSError as error:  # temporary files are removed by now, so that the free space is the available one
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            files = ", ".join(archive.file for archive in card.archives)
            folder = next(path for path in (root, *root.parents) if path.exists())
            free = f"{shutil.disk_usage(folder).free:,} bytes are free in {folder}"
            raise DiskFull(
                f"{card.title}: no space to download and extract {files}, {free}; make room and {again}"
            ) from error
        raise UserError(f"{card.title} cannot be written to {root} ({error}); correct that and {again}") from error
    if not card.layout(root):
        raise UserError(
            f"{card.title} is incomplete in {root}, and existing files are never overwritten: "
            f"move {', '.join(existing)} away and {again}"
        )
    return steps


@contextmanager
def _work_folder(card: DatasetCard, root: Path) -> Iterator[Path]:
    """Yield an empty folder for temporary files on the root's disk, to one job at a time; it is removed at the end."""
    downloads = root / ".downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    work = downloads / card.name
    with file_lock(downloads / f"{card.name}.lock", f"downloading {card.title} into {root}"):
        try:
            shutil.rmtree(work, ignore_errors=True)  # of a job that was killed
            work.mkdir()
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _provide(title: str, archive: Archive, root: Path, work: Path, again: str) -> Iterator[str]:
    """Download, verify and extract one archive unless everything that it provides exists; yield the steps done."""
    missing = [path for path in archive.provides if not os.path.lexists(root / path)]
    if not missing:
        return
    manual_copy, extracted = root / archive.file, work / f"from {archive.file}"
    has_copy = manual_copy.is_file()
    file, origin = (manual_copy, str(manual_copy)) if has_copy else (work / archive.file, archive.url)
    try:
        if not has_copy:
            _download(archive, file)
        _verify(file, archive.md5, origin)
        yield f"{'used' if has_copy else 'downloaded'} {origin}"
        if archive.packed:
            unpack(file, extracted, archive.limit)
        else:
            extracted.mkdir()
            if has_copy:
                shutil.copyfile(file, extracted / archive.file)
            else:
                file.rename(extracted / archive.file)
        parts = {path: extracted / PurePosixPath(path).relative_to(archive.into) for path in missing}
        lacking = [path for path, part in parts.items() if not part.exists()]
        if lacking:
            raise BrokenArchive(f"{origin} does not contain {', '.join(lacking)}")
    except (DownloadError, ChecksumError, BrokenArchive, UnsafeArchive) as error:
        remedy = f"download {archive.file} from {archive.url} by other means, put it at {manual_copy} and {again}"
        raise type(error)(f"{title}: {error}; {remedy}") from error
    for path, part in parts.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        part.rename(root / path)
        yield f"wrote {root / path}"


def _verify(file: Path, md5: str | None, origin: str) -> None:
    with file.open("rb") as stream:
        actual = hashlib.file_digest(stream, "md5").hexdigest()
    if md5 not in {None, actual}:
        size = file.stat().st_size
        raise ChecksumError(f"{origin} is not the official file: {size:,} bytes with MD5 {actual}, expected {md5}")


def _download(archive: Archive, file: Path) -> None:
    """Download an archive; after a failed connection, try once more from the start."""
    from pooch import HTTPDownloader
    from requests import HTTPError, RequestException

    for last in (False, True):
        with closing(_DownloadBar(f"downloading {archive.file}")) as bar:
            options = {"headers": {"Accept-Encoding": "identity"}, "hooks": {"response": _keep_compressed}}
            get = HTTPDownloader(progressbar=bar, chunk_size=MB, timeout=TIMEOUT, **options)
            try:
                get(archive.url, str(file), None)
                return
            except RequestException as error:
                if last or isinstance(error, HTTPError):
                    raise DownloadError(f"{archive.url} cannot be downloaded ({_reason(error)})") from error


def _keep_compressed(response: Any, **_: Any) -> None:
    # Some hosts label a .tar.gz as compressed text; requests would decompress it, and no sum would match.
    response.raw.headers.pop("Content-Encoding", None)


def _reason(error: BaseException) -> str:
    """Return the message of the first error of a chain, such as `Connection refused`; later ones only wrap it."""
    while error.__context__:
        error = error.__context__
    return str(error) or type(error).__name__


class _DownloadBar:
    """A progress bar for pooch, which sets `total`, updates in bytes, and at the end resets, updates and closes."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.total = self.done = 0
        self.display: PlainLines | Bar | None = None

    def update(self, size: int) -> None:
        """Count bytes, the last chunk as a full one; nothing is shown if the host does not state the total."""
        if self.display is None and self.total:
            self.display = progress_display(self.label, -(-self.total // MB), "MB")
        self.done += size
        if self.display and self.done < self.total:
            self.display.update(self.done // MB)

    def reset(self) -> None:
        """Restart the count."""
        self.done = 0

    def close(self) -> None:
        """Close the display; pooch does so only after a successful download."""
        if self.display:
            self.display.update(-(-min(self.done, self.total) // MB))
            self.display.close()
        self.display = None
