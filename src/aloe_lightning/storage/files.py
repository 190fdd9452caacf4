"""Files that appear whole or not at all, also when several jobs write the same one."""

import errno
import json
import logging
import os
import sys
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from aloe_lightning.errors import UserError

NOT_WRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


log = logging.getLogger(__name__)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a path next to `path` to write to; it replaces `path` if the block ends well and is removed if it fails.

    Raises:
        UserError: if the disk is full or the folder cannot be written.
    """
    part = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        with writable(path):
            yield part
            part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """Raise a UserError that names the path if the block fails because it cannot be written."""
    try:
        yield
    except OSError as error:
        if error.errno not in NOT_WRITABLE:
            raise
        raise UserError(
            f"cannot write {path.absolute()}: {os.strerror(error.errno)}; make room or permit it"
        ) from error


def remove_parts(folder: Path) -> None:
    """Remove what `atomic_write` could not, because its process was killed; call it under a lock of the folder."""
    for part in folder.glob(".[0-9]*-*"):
        part.unlink(missing_ok=True)


@contextmanager
def file_lock(lock: Path, activity: str) -> Iterator[None]:
    """Hold a lock file while the block runs; if another job holds it, print that job's activity and wait."""
    held = FileLock(lock)
    try:
        with writable(lock):
            held.acquire(timeout=0)
    except Timeout:
        print(f"waiting: another job is {activity}", file=sys.stderr, flush=True)
        held.acquire()
    try:
        yield
    finally:
        held.release()


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text; ValueError if it is damaged, also for brackets nested without end."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def zip_damage(path: Path) -> str:
    """Return the first part of a zip archive that differs from its checksum, which torch does not compare; "" if none.

    An archive of `torch.serialization.set_crc32_options(False)` has no right checksums.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            name = archive.testzip()
    except Exception as error:  # zipfile raises whatever the damage suggests
        return f"no intact archive ({error})"
    return "" if name is None else f"{name} differs from its checksum"


def read_json(path: Path, required: Collection[str] = ()) -> dict[str, Any]:
    """Return the object in a JSON file; empty if there is none, or, with a warning, if it is damaged or lacks a key."""
    try:
        content = parse_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError:
        content = None
    if not isinstance(content, dict) or not content.keys() >= set(required):
        log.warning("ignoring %s: it is damaged", path)
        return {}
    return content


def write_json(path: Path, content: Any) -> None:
    """Write a value as JSON, whole."""
    with atomic_write(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n")
