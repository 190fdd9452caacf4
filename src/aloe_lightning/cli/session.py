"""The progress of one command: how far Hydra got, and what is printed at its end."""

import os
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from aloe_lightning.storage.cells import FAILED


class Session(Callback):
    """Remembers the folder of the results, for `main` to print tables and failures last.

    Hydra's own `on_multirun_end` is not called when a job of a sweep has failed.
    """

    composed: bool = False
    folder: Path | None = None

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Remember the folder; Hydra calls this in the process that starts the jobs."""
        Session.folder = Path(config.paths.outputs)

    on_multirun_start = on_run_start

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
