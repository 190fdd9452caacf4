"""Weights & Biases: runs that log offline where the service or a key is missing, tables, histograms and weights."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning.loggers import WandbLogger

from aloe_lightning.errors import UserError
from aloe_lightning.evaluation.records import Record
from aloe_lightning.report import StudyReport

log = logging.getLogger(__name__)


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
    if mode == "auto":
        mode = "online" if wandb.login(prompt=False, verify=False) else "offline"
    elif mode == "online" and not wandb.login(prompt=False, verify=False):
        raise UserError(
            "logger.mode=online requires a key: run `wandb login`, or set WANDB_API_KEY, or logger.mode=offline"
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


def log_to_wandb(
    logger: WandbLogger,
    records: Sequence[Record],
    histograms: Mapping[str, NDArray[np.float64]],
    report: StudyReport,
    figures: Sequence[Path],
) -> None:
    """Log histograms, figures, and two tables: metrics of each OOD set, and the tables of the study."""
    import wandb

    by_set: dict[tuple[str, str, str], dict[str, float]] = {}
    for r in records:
        if r.ood:
            by_set.setdefault((r.detector, r.ood, r.side), {})[r.metric] = r.value
    metrics = list(next(iter(by_set.values())))
    rows = [[*place, *(values[name] for name in metrics)] for place, values in by_set.items()]
    frame = report.frame.drop(columns="budget").astype({"method": str}).astype(object)
    frame = frame.where(frame.notna(), None)
    logger.experiment.log(
        {
            **{name: wandb.Histogram(values.tolist(), num_bins=64) for name, values in histograms.items()},
            "result/each_ood_set": wandb.Table(columns=["detector", "ood", "side", *metrics], data=rows),
            "result/tables": wandb.Table(columns=list(frame.columns), data=frame.values.tolist()),
            "result/scores": [wandb.Image(str(path)) for path in figures],
        }
    )


def log_weights(logger: WandbLogger, model: Path) -> None:
    """Store the folder of a trained net as an artifact."""
    import wandb

    artifact = wandb.Artifact(model.name, type="model")
    for file in ("weights.safetensors", "model.json"):
        artifact.add_file(str(model / file))
    logger.experiment.log_artifact(artifact)
