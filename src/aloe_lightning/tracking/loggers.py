"""Loggers of curves and results: CSV files, Weights & Biases, or TensorBoard."""

import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from aloe_lightning.errors import UserError
from aloe_lightning.evaluation.records import Record
from aloe_lightning.evaluation.scores import Condition, Scores
from aloe_lightning.report import StudyReport
from aloe_lightning.runtime.distributed import rank_and_world_size
from aloe_lightning.tracking.wandb_logger import log_to_wandb, log_weights, wandb_logger

CONDITIONS: tuple[Condition, ...] = ("clean", "attacked")


def csv_logger(folder: Path) -> CSVLogger:
    """Log curves to `metrics.csv` of the run's folder; those of an earlier run of the cell are renamed.

    Lightning's logger deletes an existing file.
    """
    curves = folder / "metrics.csv"
    if curves.is_file() and rank_and_world_size()[0] == 0:
        earlier = len(list(folder.glob("metrics-*.csv")))
        curves.rename(folder / f"metrics-{earlier}.csv")
    return CSVLogger(folder, name="", version="")


def tensorboard_logger(folder: Path) -> TensorBoardLogger:
    """Log to event files in `tensorboard/` of the run's folder.

    Raises:
        UserError: if TensorBoard is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError("logger=tensorboard requires TensorBoard: pip install 'aloe-lightning[tensorboard]'")
    return TensorBoardLogger(folder, name="tensorboard", version="")


def log_results(
    logger: Logger, records: Sequence[Record], scores: Scores, report: StudyReport, weights: Path | None
) -> None:
    """Log results as scalars `result/detector/ood/side/metric`, with `mean` for the mean over OOD sets.

    W&B and TensorBoard also get score histograms and the score figure, W&B also tables.

    Args:
        logger: logger of the run.
        records: records of the run.
        scores: raw scores of the run.
        report: report of the study, including this run.
        weights: folder of a trained net that W&B should store, or None.
    """
    logger.log_metrics(_scalars(records))
    histograms = {
        f"scores/{detector}/{side}/{condition}": values
        for detector in scores.detectors
        for side in ("id", "ood")
        for condition in CONDITIONS
        for values in [scores[detector, "id", condition] if side == "id" else scores.pooled_ood(detector, condition)]
    }
    figures = [path for path in report.files if path.suffix == ".png"]
    if isinstance(logger, TensorBoardLogger):
        for name, values in histograms.items():
            logger.experiment.add_histogram(name, values)
        for path in figures:
            logger.experiment.add_image("result/scores", np.asarray(Image.open(path).convert("RGB")), dataformats="HWC")
    if isinstance(logger, WandbLogger):
        log_to_wandb(logger, records, histograms, report, figures)
        if weights is not None:
            log_weights(logger, weights)


def _scalars(records: Sequence[Record]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for r in records:
        place = (r.detector, r.ood, r.side) if r.ood else (r.detector, "" if r.side == "none" else r.side)
        values["/".join(part for part in ("result", *place, r.metric) if part)] = [r.value]
        if r.ood:
            values.setdefault(f"result/{r.detector}/mean/{r.side}/{r.metric}", []).append(r.value)
    return {name: fmean(numbers) for name, numbers in values.items()}


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to names such as `attack/eval/epsilon`, as Lightning does and W&B accepts."""
    settings: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            settings |= flatten(value, f"{prefix}{key}/")
        else:
            settings[f"{prefix}{key}"] = value
    return settings


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
        logger = {"csv": csv_logger, "tensorboard": tensorboard_logger}[settings["kind"]](folder)
    failed = True
    try:
        yield logger
        failed = False
    finally:
        logger.finalize("failed" if failed else "success")
        if isinstance(logger, WandbLogger):
            sys.modules["wandb"].finish(exit_code=int(failed))
