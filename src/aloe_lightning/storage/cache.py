"""Results that are costly to make, kept under a fingerprint of all they depend on; made once, also by several jobs."""

import errno
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from aloe_lightning.errors import UserError
from aloe_lightning.storage.files import atomic_write, file_lock


def cache_folder() -> Path:
    """`$ALOE_CACHE`, else the user's cache folder as the operating system has it."""
    import pooch

    return Path(os.environ.get("ALOE_CACHE") or pooch.os_cache("aloe_lightning")).expanduser().absolute()


def fingerprint(*parts: object) -> str:
    """Sixteen hex digits of some values, by their text."""
    return hashlib.sha256("\n".join(map(repr, parts)).encode()).hexdigest()[:16]


def identity_of(files: Iterable[Path], base: Path) -> str:
    """What tells the contents of files from others without reading them: names below `base`, sizes, times of change."""
    facts = []
    for file in files:
        try:
            status = file.stat()
        except OSError as error:
            raise UserError(f"cannot read {file} ({error.strerror}): repair or remove it") from error
        facts.append((file.relative_to(base).as_posix(), status.st_size, status.st_mtime_ns))
    return fingerprint(str(base.absolute()), facts)


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """The cached file of this name, made first if it is not there.

    Args:
        name: with the fingerprint of everything that the content depends on.
        make: writes the content to the path it is given; several jobs wait for one.

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
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                full = f"the disk is full: cannot write {path}; make room or set ALOE_CACHE to a folder with space"
                raise UserError(full) from error
    return path
