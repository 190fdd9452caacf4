"""Where curves and results go: CSV files, Weights & Biases (offline when no key is configured), or TensorBoard."""

import importlib.util
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from aloe_lightning.errors import UserError
from aloe_lightning.records import Record

log = logging.getLogger(__name__)


def csv_logger(folder: Path) -> CSVLogger:
    """Curves in `metrics.csv` of the run's folder; those that an earlier run of the cell left stay beside it.

    Lightning's logger deletes the file it finds.
    """
    curves = folder / "metrics.csv"
    if curves.is_file():
        earlier = len(list(folder.glob("metrics-*.csv")))
        curves.rename(folder / f"metrics-{earlier}.csv")
    return CSVLogger(folder, name="", version="")


def tensorboard_logger(folder: Path) -> TensorBoardLogger:
    """Event files in `tensorboard/` of the run's folder.

    Raises:
        UserError: if TensorBoard is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError("logger=tensorboard wants TensorBoard: pip install 'aloe-lightning[tensorboard]'")
    return TensorBoardLogger(folder, name="tensorboard", version="")


def wandb_logger(
    folder: Path, *, mode: str, project: str, entity: str | None, name: str, group: str, tags: Sequence[str]
) -> WandbLogger:
    """A W&B run; `mode` auto is online where a key is configured and the service answers, else offline.

    It never asks for a key and waits at most 30 seconds for the service.
    """
    import wandb

    # Without this even an offline run looks up the address of W&B's error reporting.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("WANDB_SILENT", "true")
    if mode == "auto":
        mode = "online" if wandb.login(prompt=False, verify=False) else "offline"
    elif mode == "online" and not wandb.login(prompt=False, verify=False):
        raise UserError(
            "logger.mode=online wants a key: run `wandb login`, or set WANDB_API_KEY, or logger.mode=offline"
        )
    for attempt in dict.fromkeys((mode, "offline")):
        settings = wandb.Settings(init_timeout=30, mode=attempt, silent=True)  # type: ignore[arg-type]
        logger = WandbLogger(
            name=name, save_dir=folder, project=project, entity=entity, group=group, tags=list(tags), settings=settings
        )
        try:
            logger.experiment  # noqa: B018  creates the run now, where a failure can still be answered
            return logger
        except wandb.Error as error:
            reason = str(error).splitlines()[0]
            log.warning("W&B does not answer (%s): logging offline, `wandb sync` sends it later", reason)
    raise UserError("W&B cannot even log offline: choose logger=csv")


def log_results(logger: Logger, records: Sequence[Record], figures: Sequence[Path]) -> None:
    """Results as `detector/ood/side/metric` scalars, and to W&B the score figure besides."""
    values = {
        "/".join(part for part in ("result", r.detector, r.ood, r.side if r.ood else "", r.metric) if part): r.value
        for r in records
    }
    logger.log_metrics(values)
    if isinstance(logger, WandbLogger):
        images = [str(path) for path in figures if path.suffix == ".png"]
        if images:
            logger.log_image("result/scores", images)


@contextmanager
def open_logger(
    settings: Mapping[str, Any], folder: Path, *, name: str, group: str, tags: Sequence[str]
) -> Iterator[Logger]:
    """The logger that the config's group `logger` names, closed at the end and told whether the run failed.

    A second W&B logger of one process would go on writing into a first one's run that was left open.
    """
    options = {key: value for key, value in settings.items() if key != "kind"}
    if settings["kind"] == "wandb":
        logger: Logger = wandb_logger(folder, name=name, group=group, tags=tags, **options)
    else:
        logger = {"csv": csv_logger, "tensorboard": tensorboard_logger}[settings["kind"]](folder)
    failed = True
    try:
        yield logger
        failed = False
    finally:
        logger.finalize("failed" if failed else "success")
        if isinstance(logger, WandbLogger):
            sys.modules["wandb"].finish(exit_code=int(failed))
