"""The GPUs of this machine: counted without importing torch, and handed out one to a job."""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from filelock import FileLock, Timeout

NVIDIA = Path("/proc/driver/nvidia/gpus")
"""Folder in which NVIDIA's driver lists the GPUs of the machine."""
SECONDS_BETWEEN_TRIES = 1.0
_ASSIGNED: ContextVar[int | None] = ContextVar("assigned GPU", default=None)


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
    `assigned_devices` returns the GPU meanwhile.

    Yields:
        The index of the GPU among the visible ones; None without GPUs.
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
            token = _ASSIGNED.set(index)
            try:
                yield index
            finally:
                _ASSIGNED.reset(token)
                lock.release()
            return
        if not waiting:
            print(f"waiting: other jobs hold all GPUs ({', '.join(names)})", file=sys.stderr, flush=True)
        waiting = True
        time.sleep(SECONDS_BETWEEN_TRIES)


def assigned_devices(devices: int | str | list[int]) -> int | str | list[int]:
    """Return the devices of Lightning's Trainer: the GPU that this job holds, else those of the config.

    It is no part of the config, because weights and records do not depend on which GPU was free.
    """
    index = _ASSIGNED.get()
    return devices if index is None else [index]
