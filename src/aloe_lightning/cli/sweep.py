"""A command until its end: a sweep runs again if a job was killed, and names the cells that are not done."""

import re
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from aloe_lightning.cli.dry_run import PlannedCell, planned
from aloe_lightning.cli.missing_data import require_data
from aloe_lightning.cli.session import Session
from aloe_lightning.errors import UserError
from aloe_lightning.runtime.process import Stopped
from aloe_lightning.storage.cells import FAILED, computed_since, is_done

REPETITIONS = 2
"""How often a sweep is started again after one of its jobs was killed."""
KILLED = {("submitit", "UncompletedJobError"), ("ray", "WorkerCrashedError"), ("ray", "OutOfMemoryError")}
"""Packages and exceptions by which launchers report that the process of a job was killed."""


def run_command(job: Callable[[], Any], words: Sequence[str], started: float) -> None:
    """Run a command, print its tables, and name the cells that are missing.

    Args:
        job: Hydra's main function.
        words: arguments of the command.
        started: time of its start, seconds since the epoch.

    Raises:
        Exception: that of the last job that failed.
        SystemExit: with code 1 if cells are missing although nothing failed.
        UserError: if named data sets are missing, before any job.
    """
    require_data(words)
    failure = None
    try:
        for repetition in range(REPETITIONS + 1):
            failure = _failure_of(job)
            if failure is None or not _was_killed(failure) or repetition == REPETITIONS:
                break
            names = "".join(f"\n  {cell.folder.name}" for cell in missing_cells(words, started) or [])
            print(f"a job was killed; the sweep starts again, to compute what is not done:{names}", file=sys.stderr)
    except KeyboardInterrupt:
        Session.show_queue()
        raise
    finally:
        Session.show_tables(since=started)
    missing = missing_cells(words, started) if Session.plannable else None
    if missing is None:
        Session.show_failures(since=started)
    elif missing:
        print(f"{len(missing)} of the cells are missing; the same command computes them:", file=sys.stderr)
        for cell in missing:
            print(_in_words(cell.folder, started), file=sys.stderr)
    if failure is not None and not (_was_killed(failure) and missing == []):
        raise failure
    if missing:
        sys.exit(1)


def missing_cells(words: Sequence[str], started: float) -> list[PlannedCell] | None:
    """Return the planned cells that are not done; None if the command cannot be planned."""
    GlobalHydra.instance().clear()
    try:
        cells = planned(words)
    except (UserError, HydraException, OmegaConfBaseException):
        return None
    return [cell for cell in cells if not _is_done(cell, started)]


def _is_done(cell: PlannedCell, started: float) -> bool:
    wanted = cell.config["recompute"] == "nothing" or computed_since(cell.folder, started)
    return wanted and is_done(cell.config, cell.folder)


def _failure_of(job: Callable[[], Any]) -> BaseException | None:
    """Run all jobs; return the exception of the first that failed after all have ended."""
    try:
        job()
    except Stopped as stopped:
        if stopped.__cause__ is None:  # this process was asked to stop, and not one that it has started
            raise
        return stopped
    except Exception as error:
        Session.wait_for_queue()
        return error
    return None


def _was_killed(error: BaseException) -> bool:
    names = {(kind.__module__.split(".")[0], kind.__name__) for kind in type(error).__mro__}
    return isinstance(error, BrokenExecutor | Stopped) or bool(names & KILLED)


def _in_words(folder: Path, started: float) -> str:
    """Return name, reason, log and job number of a missing cell."""
    failed, log = folder / FAILED, folder / "aloe_lightning.log"
    settings = folder / "config" / "hydra.yaml"
    number = re.search(r"^    id: '?(\d[\w]*)", settings.read_text(), re.M) if settings.is_file() else None
    logs = [failed, log, *(folder.parents[1].glob(f".submitit/{number[1]}/*_log.err") if number else [])]
    written = [str(path.absolute()) for path in logs if path.is_file() and path.stat().st_mtime >= started]
    reason = (failed.read_text().strip().splitlines() or [""])[-1] if str(failed.absolute()) in written else "no result"
    place = ", ".join(written) or "no log: its job has not started"
    return f"  {folder.name}: {reason}\n    {place}" + (f" (job {number[1]})" if number else "")
