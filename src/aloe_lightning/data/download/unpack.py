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


class BrokenArchive(UserError):
    """An archive is truncated, corrupt, or has other content than expected."""


class UnsafeArchive(UserError):
    """An archive has content that images do not require: links, paths outside its folder, excessive size."""


class _Entry(NamedTuple):
    """An entry of a zip or tar archive; only files and folders are `plain`."""

    name: str
    size: int
    folder: bool
    plain: bool
    open: Callable[[], IO[bytes] | None]


def _zip_entries(raw: IO[bytes]) -> Iterator[_Entry]:
    with ZipFile(raw) as archive:
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive was not made on Unix
            plain = kind in {0, stat.S_IFREG, stat.S_IFDIR}
            # The original name, since zipfile cuts a name at its first zero byte.
            yield _Entry(info.orig_filename, info.file_size, info.is_dir(), plain, partial(archive.open, info))


def _tar_entries(raw: IO[bytes]) -> Iterator[_Entry]:
    # Not "r:*", which would accept a bzip2 or xz bomb as a .tar.
    with tarfile.open(fileobj=raw, mode="r:gz" if str(raw.name).endswith("gz") else "r:") as archive:
        for info in archive:
            plain = info.isreg() or info.isdir()
            yield _Entry(info.name, info.size, info.isdir(), plain, partial(archive.extractfile, info))


def _relative_path(entry: _Entry) -> PurePosixPath:
    """Return the path of an entry relative to the destination; refuse links and paths outside."""
    path = PurePosixPath(entry.name)
    if path.is_absolute() or PureWindowsPath(entry.name).drive or ".." in path.parts or set("\\\0") & set(entry.name):
        raise UnsafeArchive(f"it would write to {entry.name!r}, outside its folder")
    if not entry.plain:
        raise UnsafeArchive(f"{entry.name!r} in it is a link or a device, not a file")
    return path


def _write(entries: Iterator[_Entry], into: Path, limit: int, show: Callable[[], None]) -> None:
    too_much = UnsafeArchive(f"its files exceed the {limit:,} bytes that this set may have")
    declared = written = 0
    for entry in entries:
        path = _relative_path(entry)
        declared += entry.size
        if declared > limit or entry.size < 0:  # a negative size makes tarfile loop
            raise too_much
        if "__MACOSX" in path.parts or path.name.startswith("._"):
            continue
        if entry.folder:
            (into / path).mkdir(parents=True, exist_ok=True)
            continue
        (into / path).parent.mkdir(parents=True, exist_ok=True)
        source = entry.open()
        assert source is not None, "tarfile returns None only for an entry that is not plain"
        with source, (into / path).open("wb") as stream:
            while block := source.read(MB):
                written += len(block)
                if written > limit:  # the declared sizes are wrong
                    raise too_much
                stream.write(block)
                show()


def unpack(archive: Path, into: Path, limit: int) -> None:
    """Extract a `.zip`, `.tar`, `.tar.gz` or `.tgz`, without modes, owners, times and the files that macOS adds.

    Args:
        archive: the file.
        into: a folder that does not exist yet; it is removed if anything fails.
        limit: largest total size of the files in bytes.

    Raises:
        BrokenArchive: if it is truncated or corrupt, as far as detectable: a .tar cut between two files looks complete.
        UnsafeArchive: if it has anything but files and folders below `into`, or more than `limit`.
        OSError: for errors of the disk.
    """
    into.mkdir()
    try:
        bar = progress_display(f"extracting {archive.name}", archive.stat().st_size // MB, "MB")
        with archive.open("rb") as raw, closing(bar):
            entries = _zip_entries(raw) if archive.suffix == ".zip" else _tar_entries(raw)
            _write(entries, into, limit, lambda: bar.update(raw.tell() // MB))
    except BaseException as error:
        shutil.rmtree(into, ignore_errors=True)
        if isinstance(error, UnsafeArchive):
            raise UnsafeArchive(f"{archive.name} is refused: {error}") from None
        if not isinstance(error, Exception) or (isinstance(error, OSError) and error.errno not in ERRORS_OF_ARCHIVE):
            raise
        raise BrokenArchive(f"{archive.name} is truncated or corrupt ({error or type(error).__name__})") from error
