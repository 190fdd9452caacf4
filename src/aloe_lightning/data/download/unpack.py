"""Safe extraction of archives from untrusted sources: only plain files and folders, only below one folder."""

import errno
import shutil
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, NamedTuple
from zipfile import ZipFile

from aloe_lightning.errors import UserError
from aloe_lightning.runtime.progress import progress_display

MB = 10**6
# System errors that an invalid archive causes; any other is an error of the disk.
ERRORS_OF_ARCHIVE = {None, errno.EINVAL, errno.EEXIST, errno.EISDIR, errno.ENOTDIR}


class ArchiveError(UserError):
    """A download or an archive cannot be used: it is incomplete, altered, corrupt or unsafe."""


class _Entry(NamedTuple):
    """An entry of a zip or tar archive; only files and folders are `plain`."""

    name: str
    size: int
    plain: bool
    extract_to: Callable[[Path], object]


def _zip_entries(raw: IO[bytes]) -> Iterator[_Entry]:
    with ZipFile(raw) as archive:
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive was not made on Unix
            plain = kind in {0, stat.S_IFREG, stat.S_IFDIR}
            # The original name, since zipfile cuts a name at its first zero byte.
            yield _Entry(info.orig_filename, info.file_size, plain, partial(archive.extract, info))


def _tar_entries(raw: IO[bytes]) -> Iterator[_Entry]:
    # Not "r:*", which would accept a bzip2 or xz bomb as a .tar.
    with tarfile.open(fileobj=raw, mode="r:gz" if str(raw.name).endswith("gz") else "r:") as archive:
        for info in archive:
            extract = partial(archive.extract, info, set_attrs=False, filter="data")
            yield _Entry(info.name, info.size, info.isreg() or info.isdir(), extract)


def unpack(archive: Path, into: Path, limit: int) -> None:
    """Extract a `.zip`, `.tar`, `.tar.gz` or `.tgz`, without modes, owners, times and the files that macOS adds.

    Args:
        archive: the file.
        into: a folder that does not exist yet; it is removed if anything fails.
        limit: largest total size of the files in bytes.

    Raises:
        ArchiveError: if it has anything but files and folders below `into`, or more than `limit`, or is truncated or
            corrupt, as far as detectable: a .tar cut between two files looks complete.
        OSError: for errors of the disk.
    """
    into.mkdir()
    try:
        bar = progress_display(f"extracting {archive.name}", archive.stat().st_size // MB, "MB")
        with archive.open("rb") as raw, closing(bar):
            remaining = limit
            for entry in _zip_entries(raw) if archive.suffix == ".zip" else _tar_entries(raw):
                remaining -= entry.size
                reason = _reason_to_refuse(entry)
                if remaining < 0 or entry.size < 0:  # a negative size makes tarfile loop
                    reason = f"its files exceed the {limit:,} bytes that this set may have"
                if reason:
                    raise ArchiveError(f"{archive.name} is refused: {reason}")
                path = PurePosixPath(entry.name)
                if "__MACOSX" not in path.parts and not path.name.startswith("._"):
                    entry.extract_to(into)  # reads no more than the stated size
                bar.update(raw.tell() // MB)
    except BaseException as error:
        shutil.rmtree(into, ignore_errors=True)
        interrupted_or_refused = not isinstance(error, Exception) or isinstance(error, ArchiveError)
        if interrupted_or_refused or (isinstance(error, OSError) and error.errno not in ERRORS_OF_ARCHIVE):
            raise
        raise ArchiveError(f"{archive.name} is truncated or corrupt ({error or type(error).__name__})") from error


def _reason_to_refuse(entry: _Entry) -> str:
    """Return why an entry must not be extracted; empty if it may."""
    path, drive = PurePosixPath(entry.name), PureWindowsPath(entry.name).drive
    if path.is_absolute() or drive or ".." in path.parts or set("\\\0") & set(entry.name):
        return f"it would write to {entry.name!r}, outside its folder"
    return "" if entry.plain else f"{entry.name!r} in it is a link or a device, not a file"
