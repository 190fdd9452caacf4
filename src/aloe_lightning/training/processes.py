"""The processes of a distributed run: started and connected before anything is decided, and locked as one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException

from aloe_lightning.errors import UserError
from aloe_lightning.runtime.devices import assigned_devices
from aloe_lightning.runtime.distributed import on_first_process, rank_and_world_size
from aloe_lightning.runtime.process import end_with_parent
from aloe_lightning.storage.files import file_lock, writable

SECONDS_BETWEEN_ATTEMPTS = 60.0
"""Time between two attempts at a lock: far below the half hour after which waiting processes give up."""


def join_processes(settings: dict[str, Any]) -> None:
    """Start the other processes of a run, unless torchrun or srun did, and connect them; nothing for one device.

    Args:
        settings: the config's section `trainer`.

    Raises:
        UserError: if the devices are not there.
    """
    child = int(os.environ.get("LOCAL_RANK", "0")) > 0
    try:
        chosen = {key: settings[key] for key in ("accelerator", "strategy", "num_nodes")}
        Fabric(**chosen, devices=assigned_devices(settings["devices"])).launch()
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"config: trainer: {str(error).splitlines()[0]}") from error
    if child:
        end_with_parent()


@contextmanager
def lock_for_all(lock: Path, activity: str) -> Iterator[None]:
    """Hold a lock file while the block runs on all processes; the first one holds it.

    Args:
        lock: the file.
        activity: what the holder does, shown to a job that has to wait.
    """
    if rank_and_world_size()[1] == 1:
        with file_lock(lock, activity):
            yield
        return
    held = FileLock(lock)

    def acquired() -> bool:
        try:
            with writable(lock):
                held.acquire(timeout=SECONDS_BETWEEN_ATTEMPTS)
        except Timeout:
            print(f"waiting: another job is {activity}", flush=True)
            return False
        return True

    try:
        while not on_first_process(acquired):
            pass
        yield
    finally:
        held.release()
