"""Loggers of curves: CSV files, Weights & Biases, or TensorBoard."""

import importlib.util
import logging
import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from pathlib import Path
from threading import Thread
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from aloe_lightning.errors import UserError
from aloe_lightning.runtime.distributed import rank_and_world_size

SECONDS = 60.0
"""Time that a logger has for the values of a step; a run waits so long at most."""
SECONDS_FOR_FILES = 1800.0
"""Time that it has for tables, figures and weights."""

log = logging.getLogger(__name__)


@contextmanager
def open_logger(
    settings: Mapping[str, Any], folder: Path, *, name: str, group: str, tags: Sequence[str]
) -> Iterator[Logger]:
    """Open the logger of the config's group `logger`; at the end close it with success or failure.

    Without closing, a second W&B logger of the same process would write into the run of the first.
    """
    options = {key: value for key, value in settings.items() if key not in ("kind", "artifact")}
    if settings["kind"] == "wandb":
        logger: Logger = wandb_logger(folder, name=name, group=group, tags=tags, **options)
    else:
        logger = {"csv": _csv_logger, "tensorboard": _tensorboard_logger}[settings["kind"]](folder)
    for method in ("log_hyperparams", "log_metrics", "save", "finalize"):
        setattr(logger, method, warning_only(getattr(logger, method)))
    failed = True
    try:
        yield logger
        failed = False
    finally:
        logger.finalize("failed" if failed else "success")
        if isinstance(logger, WandbLogger):
            import wandb

            offline_folder = _offline_folder(logger) if rank_and_world_size()[0] == 0 else None
            warning_only(wandb.finish, SECONDS_FOR_FILES)(exit_code=int(failed))
            if offline_folder is not None:
                log.warning("W&B was offline; send the run with: wandb sync %s", shlex.quote(str(offline_folder)))


def _offline_folder(logger: WandbLogger) -> Path | None:
    """Return the folder of a W&B run that was logged offline; None for one that was sent."""
    run = logger.experiment
    return Path(run.dir).absolute().parent if run.offline else None


def warning_only(log_to: Callable[..., Any], seconds: float = SECONDS) -> Callable[..., None]:
    """Turn the failure of a logger into a warning: no result is lost because a curve cannot be drawn.

    Args:
        log_to: what logs.
        seconds: time to wait for its end. It is not called again before an earlier call has ended.
    """
    hanging = list[Thread]()

    def attempt(*arguments: Any, **options: Any) -> None:
        try:
            log_to(*arguments, **options)
        except Exception as error:  # whatever the service, the network or the disk raises
            log.warning("the logger failed, the run goes on: %s: %s", type(error).__name__, error)

    @wraps(log_to)
    def log_or_warn(*arguments: Any, **options: Any) -> None:
        if any(thread.is_alive() for thread in hanging):
            return
        thread = Thread(target=partial(attempt, *arguments, **options), daemon=True)
        thread.start()
        thread.join(seconds)
        if thread.is_alive():
            hanging[:] = [thread]
            log.warning("the logger does not answer for %g s, the run goes on without it", seconds)

    return log_or_warn


def _csv_logger(folder: Path) -> CSVLogger:
    """Log curves to `metrics.csv`; those of an earlier run of the cell, which Lightning would delete, are renamed."""
    curves = folder / "metrics.csv"
    if curves.is_file() and rank_and_world_size()[0] == 0:
        curves.rename(folder / f"metrics-{len(list(folder.glob('metrics-*.csv')))}.csv")
    return CSVLogger(folder, name="", version="")


def _tensorboard_logger(folder: Path) -> TensorBoardLogger:
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError("logger=tensorboard requires TensorBoard: pip install 'aloe-lightning[tensorboard]'")
    # The results come with the settings at the end; by default Lightning logs an hp_metric of -1 at the beginning.
    return TensorBoardLogger(folder, name="tensorboard", version="", default_hp_metric=False)


def wandb_logger(
    folder: Path, *, mode: str, project: str, entity: str | None, name: str, group: str, tags: Sequence[str]
) -> WandbLogger:
    """Start a W&B run; `mode` auto is online where a key is configured and the service answers, else offline.

    It never asks for a key and waits at most 30 seconds for the service.

    Raises:
        UserError: for mode online without a key.
    """
    import wandb

    # Without this even an offline run looks up the address of W&B's error reporting.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("WANDB_SILENT", "true")
    if mode != "offline" and not wandb.login(prompt=False, verify=False):
        if mode == "online":
            raise UserError(
                "logger.mode=online requires a key: run `wandb login`, or set WANDB_API_KEY, or logger.mode=offline"
            )
        mode = "offline"
    for attempt in dict.fromkeys(("online" if mode == "auto" else mode, "offline")):
        settings = wandb.Settings(init_timeout=30, mode=attempt, silent=True)  # type: ignore[arg-type]
        logger = WandbLogger(
            name=name, save_dir=folder, project=project, entity=entity, group=group, tags=list(tags), settings=settings
        )
        try:
            logger.experiment  # noqa: B018  creates the run now, where a failure can still be answered
            return logger
        except wandb.Error as error:
            reason = str(error).splitlines()[0]
            log.warning("W&B does not answer (%s): logging offline", reason)
    raise UserError("W&B cannot even log offline: choose logger=csv")


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to names such as `attack/eval/epsilon`, as Lightning does and W&B accepts."""
    settings: dict[str, Any] = {}
    for key, value in config.items():
        settings |= flatten(value, f"{prefix}{key}/") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return settings
