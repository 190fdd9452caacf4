"""Files that appear whole or not at all, also when several jobs write the same one."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the place of `path` if the block ends well and goes if it fails."""
    part = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def file_lock(lock: Path, doing: str) -> Iterator[None]:
    """Hold a lock file while the block runs; if another job holds it, say what that one is doing and wait."""
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        print(f"waiting: another job is {doing}", file=sys.stderr, flush=True)
        held.acquire()
    try:
        yield
    finally:
        held.release()
