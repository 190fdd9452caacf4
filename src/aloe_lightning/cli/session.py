"""The progress of one command: how far Hydra got, and what is printed at its end."""

import os
import sys
from functools import wraps
from pathlib import Path
from typing import Any, ClassVar

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from aloe_lightning.storage.cells import FAILED


class Session(Callback):
    """Remembers the folder of the results, for `main` to print tables and failures last.

    Hydra's own `on_multirun_end` is not called when a job of a sweep has failed.
    """

    composed: bool = False
    folder: Path | None = None
    launcher: str = "basic"
    plannable: bool = False  # a sweep whose cells are known before it starts
    queue: ClassVar[list[Any]] = []  # jobs that were submitted by submitit

    @classmethod
    def start(cls) -> None:
        """Forget an earlier command of this process."""
        cls.composed, cls.folder, cls.launcher, cls.plannable = False, None, "basic", False
        cls.queue.clear()

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Remember the folder; Hydra calls this in the process that starts the jobs."""
        Session.folder = Path(config.paths.outputs)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Remember folder, launcher and sweeper, in the process that starts the jobs."""
        Session.folder, Session.launcher = Path(config.paths.outputs), config.launcher.name
        Session.plannable = config.hydra.sweeper._target_.endswith("BasicSweeper")
        if Session.launcher.startswith("submitit"):
            _record_submitted_jobs(Session.queue)

    @classmethod
    def wait_for_queue(cls) -> None:
        """Wait until all jobs that were submitted have ended."""
        for submitted in cls.queue:
            submitted.wait()

    @classmethod
    def show_queue(cls) -> None:
        """Name the submitted jobs that have not ended."""
        left = [str(submitted.job_id) for submitted in cls.queue if not submitted.done()]
        if left:
            cancel = "scancel" if cls.launcher == "submitit" else "kill"
            print(
                f"{len(left)} jobs remain, and write their results: `{cancel} {' '.join(left)}` ends them; the same "
                "command computes what is missing then",
                file=sys.stderr,
            )

    @classmethod
    def show_tables(cls, since: float) -> None:
        """Print the tables written since a time, except in the other processes of a distributed training."""
        if cls.folder is not None and cls.folder.is_dir() and os.environ.get("LOCAL_RANK", "0") == "0":
            from aloe_lightning.report import show_studies

            if show_studies(cls.folder, since):
                print(f"The whole report, with margins and figures: python -m aloe_lightning.report {cls.folder}")

    @classmethod
    def show_failures(cls, since: float) -> None:
        """Name the cells of a sweep that failed since a time, each with its log."""
        if cls.folder is None:
            return
        logs = [path for path in sorted(cls.folder.glob(f"*/*/{FAILED}")) if path.stat().st_mtime >= since]
        if logs:
            print(f"{len(logs)} of the cells failed; the same command computes the missing ones:", file=sys.stderr)
        for path in logs:
            lines = path.read_text().strip().splitlines() or [""]
            print(f"  {path.parent.name}: {lines[-1]}\n    {path.absolute()}", file=sys.stderr)


def _record_submitted_jobs(queue: list[Any]) -> None:
    """Append the jobs that submitit submits to a list; its launcher keeps them to itself."""
    from submitit import AutoExecutor

    submit = getattr(AutoExecutor.map_array, "__wrapped__", AutoExecutor.map_array)

    @wraps(submit)
    def map_array(executor: Any, *arguments: Any) -> Any:
        jobs = submit(executor, *arguments)
        queue.extend(jobs)
        return jobs

    AutoExecutor.map_array = map_array
