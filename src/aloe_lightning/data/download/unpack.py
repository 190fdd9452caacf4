"""Archives that other people made, unpacked without trust: only plain files and folders, only below one folder."""

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
from aloe_lightning.runtime.progress import meter

MB = 10**6
# Faults of the system that an archive with nonsense in it causes; any other is one of the disk.
NONSENSE = {None, errno.EINVAL, errno.EEXIST, errno.EISDIR, errno.ENOTDIR}


class BrokenArchive(UserError):
    """An archive is truncated, corrupt, or not what it should be."""


class UnsafeArchive(UserError):
    """An archive holds what an archive of images has no reason to hold: links, ways out of its folder, a bomb."""


class _Entry(NamedTuple):
    """What zip and tar have in common; only files and folders are `plain`."""

    name: str
    size: int
    folder: bool
    plain: bool
    open: Callable[[], IO[bytes] | None]


def _of_zip(raw: IO[bytes]) -> Iterator[_Entry]:
    with ZipFile(raw) as archive:
        for info in archive.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive was not made on Unix
            plain = kind in {0, stat.S_IFREG, stat.S_IFDIR}
            # The original name, since zipfile cuts a name at its first zero byte.
            yield _Entry(info.orig_filename, info.file_size, info.is_dir(), plain, partial(archive.open, info))


def _of_tar(raw: IO[bytes]) -> Iterator[_Entry]:
    # Not "r:*", which would let a bzip2 or xz bomb pass for a .tar.
    with tarfile.open(fileobj=raw, mode="r:gz" if str(raw.name).endswith("gz") else "r:") as archive:
        for info in archive:
            plain = info.isreg() or info.isdir()
            yield _Entry(info.name, info.size, info.isdir(), plain, partial(archive.extractfile, info))


def _place(entry: _Entry) -> PurePosixPath:
    """Where an entry goes, relative to the folder unpacked into; refused if that is outside, or if it is a link."""
    path = PurePosixPath(entry.name)
    if path.is_absolute() or PureWindowsPath(entry.name).drive or ".." in path.parts or set("\\\0") & set(entry.name):
        raise UnsafeArchive(f"it wants to write to {entry.name!r}, outside its folder")
    if not entry.plain:
        raise UnsafeArchive(f"{entry.name!r} in it is a link or a device, not a file")
    return path


def _write(entries: Iterator[_Entry], into: Path, limit: int, show: Callable[[], None]) -> None:
    too_much = UnsafeArchive(f"it unpacks to more than the {limit:,} bytes that this set may have")
    declared = written = 0
    for entry in entries:
        path = _place(entry)
        declared += entry.size
        if declared > limit or entry.size < 0:  # a negative size sends tarfile back, and round in circles
            raise too_much
        if "__MACOSX" in path.parts or path.name.startswith("._"):
            continue
        if entry.folder:
            (into / path).mkdir(parents=True, exist_ok=True)
            continue
        (into / path).parent.mkdir(parents=True, exist_ok=True)
        source = entry.open()
        assert source is not None, "tarfile gives None only for what is not plain"
        with source, (into / path).open("wb") as stream:
            while block := source.read(MB):
                written += len(block)
                if written > limit:  # the declared sizes lie
                    raise too_much
                stream.write(block)
                show()


def unpack(archive: Path, into: Path, limit: int) -> None:
    """Unpack a `.zip`, `.tar`, `.tar.gz` or `.tgz`, without modes, owners and times, and without what macOS adds.

    Args:
        archive: the file.
        into: a folder that is not there yet, and not if anything fails.
        limit: bytes that the files may have together.

    Raises:
        BrokenArchive: if it is truncated or corrupt, as far as that shows: a .tar cut between two files looks whole.
        UnsafeArchive: if it holds anything but files and folders below `into`, or more than `limit`.
        OSError: of the disk.
    """
    into.mkdir()
    try:
        bar = meter(f"unpacking {archive.name}", archive.stat().st_size // MB, "MB")
        with archive.open("rb") as raw, closing(bar):
            entries = _of_zip(raw) if archive.suffix == ".zip" else _of_tar(raw)
            _write(entries, into, limit, lambda: bar.update(raw.tell() // MB))
    except BaseException as error:
        shutil.rmtree(into, ignore_errors=True)
        if isinstance(error, UnsafeArchive):
            raise UnsafeArchive(f"{archive.name} is refused: {error}") from None
        if not isinstance(error, Exception) or (isinstance(error, OSError) and error.errno not in NONSENSE):
            raise
        raise BrokenArchive(f"{archive.name} is truncated or corrupt ({error or type(error).__name__})") from error
