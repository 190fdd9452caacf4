"""The GPUs of this machine: counted without importing torch, and handed out one to a job."""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

NVIDIA = Path("/proc/driver/nvidia/gpus")
"""Folder in which NVIDIA's driver lists the GPUs of the machine."""
SECONDS_BETWEEN_TRIES = 1.0


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them: by number or UUID."""
    installed = [str(number) for number, _ in enumerate(NVIDIA.iterdir())] if NVIDIA.is_dir() else []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or not installed:
        return installed
    names: list[str] = []
    for name in (part.strip() for part in visible.split(",")):
        if not name or name.startswith("-"):  # CUDA ignores what follows an invalid name
            break
        names.append(name)
    return names


def gpu_count() -> int:
    """Return the number of GPUs that this process may use."""
    return len(visible_gpus())


@contextmanager
def exclusive_gpu() -> Iterator[int | None]:
    """Hold the lock of a free GPU while the block runs; wait until one is free.

    The locks are those of all commands of this user on this machine. A lock ends with the process that holds it.

    Yields:
        The index of the GPU among the visible ones, as `trainer.devices=[index]` takes it; None without GPUs.
    """
    names = visible_gpus()
    if not names:
        yield None
        return
    folder = Path(tempfile.gettempdir()) / f"aloe_lightning-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    locks = [FileLock(folder / f"gpu-{name.replace('/', '-')}.lock") for name in names]
    waiting = False
    while True:
        for index, lock in enumerate(locks):
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            try:
                yield index
            finally:
                lock.release()
            return
        if not waiting:
            print(f"waiting: other jobs hold all GPUs ({', '.join(names)})", file=sys.stderr, flush=True)
        waiting = True
        time.sleep(SECONDS_BETWEEN_TRIES)
