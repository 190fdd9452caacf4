"""Loggers of curves and results: CSV files, Weights & Biases, or TensorBoard."""

import importlib.util
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from aloe_lightning.errors import UserError
from aloe_lightning.evaluation.records import Record
from aloe_lightning.evaluation.scores import Scores
from aloe_lightning.report import StudyReport
from aloe_lightning.report.figures.scores import CONDITIONS
from aloe_lightning.report.frame import COLUMNS
from aloe_lightning.runtime.distributed import rank_and_world_size

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

            wandb.finish(exit_code=int(failed))


def warning_only(log_to: Callable[..., Any]) -> Callable[..., None]:
    """Turn the failure of a logger into a warning: no result is lost because a curve cannot be drawn."""

    @wraps(log_to)
    def log_or_warn(*arguments: Any, **options: Any) -> None:
        try:
            log_to(*arguments, **options)
        except Exception as error:  # whatever the service, the network or the disk raises
            log.warning("the logger failed, the run goes on: %s: %s", type(error).__name__, error)

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
    return TensorBoardLogger(folder, name="tensorboard", version="")


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
            log.warning("W&B does not answer (%s): logging offline, `wandb sync` sends it later", reason)
    raise UserError("W&B cannot even log offline: choose logger=csv")


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to names such as `attack/eval/epsilon`, as Lightning does and W&B accepts."""
    settings: dict[str, Any] = {}
    for key, value in config.items():
        settings |= flatten(value, f"{prefix}{key}/") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return settings


@warning_only
def log_results(
    logger: Logger, records: Sequence[Record], scores: Scores, report: StudyReport, weights: Path | None
) -> None:
    """Log results as scalars `result/detector/ood/side/metric`, with `mean` for the mean over OOD sets.

    W&B and TensorBoard also get score histograms and the study's score figure, W&B also tables and, from the folder
    `weights` of a trained net, its weights.
    """
    logger.log_metrics(_scalars(records))
    histograms = {}
    for detector in scores.detectors:
        for condition in CONDITIONS:
            histograms[f"scores/{detector}/id/{condition}"] = scores[detector, "id", condition]
            histograms[f"scores/{detector}/ood/{condition}"] = scores.pooled_ood(detector, condition)
    figures = [path for path in report.files if path.suffix == ".png"]
    if isinstance(logger, TensorBoardLogger):
        for name, values in histograms.items():
            logger.experiment.add_histogram(name, values)
        for path in figures:
            logger.experiment.add_image("result/scores", np.asarray(Image.open(path).convert("RGB")), dataformats="HWC")
    if isinstance(logger, WandbLogger):
        _log_to_wandb(logger, records, histograms, report.frame, figures, weights)


def _scalars(records: Sequence[Record]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for r in records:
        place = (r.detector, r.ood, r.side) if r.ood else (r.detector, "" if r.side == "none" else r.side)
        values["/".join(part for part in ("result", *place, r.metric) if part)] = [r.value]
        if r.ood:
            values.setdefault(f"result/{r.detector}/mean/{r.side}/{r.metric}", []).append(r.value)
    return {name: fmean(numbers) for name, numbers in values.items()}


def _log_to_wandb(
    logger: WandbLogger,
    records: Sequence[Record],
    histograms: Mapping[str, NDArray[np.float64]],
    numbers: pd.DataFrame,
    figures: Sequence[Path],
    weights: Path | None,
) -> None:
    """Log histograms, figures, two tables (metrics of each OOD set, the tables of the study), and weights."""
    import wandb

    def table(frame: pd.DataFrame) -> Any:
        frame = frame.astype(object)
        return wandb.Table(columns=list(frame.columns), data=frame.where(frame.notna(), None).values.tolist())

    each = pd.DataFrame([asdict(r) for r in records if r.ood])
    by_set = each.groupby(["detector", "ood", "side", "metric"], sort=False).value.first().unstack("metric")
    logger.experiment.log(
        {
            **{name: wandb.Histogram(values.tolist(), num_bins=64) for name, values in histograms.items()},
            "result/each_ood_set": table(by_set[each.metric.unique()].reset_index()),
            "result/tables": table(numbers[COLUMNS].astype({"method": str})),
            "result/scores": [wandb.Image(str(path)) for path in figures],
        }
    )
    if weights is not None:
        artifact = wandb.Artifact(weights.name, type="model")
        for file in ("weights.safetensors", "model.json"):
            artifact.add_file(str(weights / file))
        logger.experiment.log_artifact(artifact)
