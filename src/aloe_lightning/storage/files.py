"""Files that appear whole or not at all, also when several jobs write the same one."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a path next to `path` to write to; it replaces `path` if the block ends well and is removed if it fails."""
    part = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def file_lock(lock: Path, activity: str) -> Iterator[None]:
    """Hold a lock file while the block runs; if another job holds it, print that job's activity and wait."""
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        print(f"waiting: another job is {activity}", file=sys.stderr, flush=True)
        held.acquire()
    try:
        yield
    finally:
        held.release()


def write_json(path: Path, content: Any) -> None:
    """Write a value as JSON, whole."""
    with atomic_write(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n")
