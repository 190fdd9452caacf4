"""Cached results that are costly to compute, named after a hash of everything they depend on; computed once."""

import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from aloe_lightning.errors import UserError
from aloe_lightning.storage.files import atomic_write, file_lock

Content = TypeVar("Content")


def cache_folder() -> Path:
    """Return `$ALOE_CACHE`, or else the user's cache folder of the operating system."""
    import platformdirs

    return Path(os.environ.get("ALOE_CACHE") or platformdirs.user_cache_dir("aloe_lightning")).expanduser().absolute()


def content_hash(*parts: object) -> str:
    """Return sixteen hex digits of a hash of some values, by their `repr`."""
    return hashlib.sha256("\n".join(map(repr, parts)).encode()).hexdigest()[:16]


def identity_of(files: Iterable[Path], base: Path) -> str:
    """Return a hash that identifies files without reading them: names below `base`, sizes and modification times."""
    facts = []
    for file in files:
        try:
            status = file.stat()
        except OSError as error:
            raise UserError(f"cannot read {file} ({error.strerror}): repair or remove it") from error
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for ever
            raise UserError(f"{file} is a pipe, a socket or a folder, not a file: remove it")
        facts.append((file.relative_to(base).as_posix(), status.st_size, status.st_mtime_ns))
    return content_hash(str(base.absolute()), facts)


def read_cached(path: Path, read: Callable[[Path], Content]) -> Content:
    """Return what `read` makes of a cached file; a damaged one is removed, so that it is made again.

    Raises:
        UserError: if `read` raises anything.
    """
    try:
        return read(path)
    except Exception as error:
        path.unlink(missing_ok=True)
        raise UserError(f"{path} was damaged and is removed: run again to make it anew") from error


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """Return the cached file of this name; make it first if it does not exist.

    Args:
        name: contains a hash of everything that the content depends on.
        make: writes the content to the given path; other jobs wait meanwhile.

    Raises:
        UserError: if the cache folder cannot be written or is full.
    """
    path = cache_folder() / name
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise UserError(
            f"cannot write in {path.parent} ({error.strerror}): set ALOE_CACHE to a folder of yours"
        ) from error
    with file_lock(path.with_name(f".{path.name}.lock"), f"making {path}"):
        if not path.is_file():
            for left_by_a_killed_job in path.parent.glob(f".*-{path.name}"):
                left_by_a_killed_job.unlink(missing_ok=True)
            try:
                with atomic_write(path) as part:
                    make(part)
            except UserError as error:
                if getattr(error.__cause__, "errno", None) not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise UserError(f"{error}, or set ALOE_CACHE to a folder with space") from error
    return path
