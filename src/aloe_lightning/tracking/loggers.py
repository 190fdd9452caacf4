"""Where curves and results go: CSV files, Weights & Biases (offline when no key is configured), or TensorBoard."""

import importlib.util
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from aloe_lightning.errors import UserError
from aloe_lightning.evaluation.evaluate import Evaluation
from aloe_lightning.evaluation.records import Record
from aloe_lightning.report import Row, StudyReport

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


def log_results(
    logger: Logger, records: Sequence[Record], evaluation: Evaluation, report: StudyReport, weights: Path | None
) -> None:
    """Results as scalars `result/detector/ood/side/metric`, with `mean` for the mean over OOD sets.

    To W&B and TensorBoard also score histograms and the score figure, to W&B tables.

    Args:
        logger: of the run.
        records: its numbers.
        evaluation: its scores.
        report: of the study, as the run has left it.
        weights: folder of the trained net that W&B is to keep, too.
    """
    logger.log_metrics(_scalars(records))
    scores = {
        f"scores/{detector}/{side}/{state}": values
        for detector in evaluation.id.scores
        for side, sets in (("id", [evaluation.id]), ("ood", list(evaluation.ood.values())))
        for state in ("clean", "attacked")
        for values in [np.concatenate([one.scores[detector][state] for one in sets])]
    }
    figures = [path for path in report.files if path.suffix == ".png"]
    if isinstance(logger, TensorBoardLogger):
        for name, values in scores.items():
            logger.experiment.add_histogram(name, values)
        for path in figures:
            logger.experiment.add_image("result/scores", np.asarray(Image.open(path).convert("RGB")), dataformats="HWC")
    if isinstance(logger, WandbLogger):
        _log_to_wandb(logger, records, scores, report.rows, figures)
        if weights is not None:
            _log_artifact(logger, weights)


def _scalars(records: Sequence[Record]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for r in records:
        place = (r.detector, r.ood, r.side) if r.ood else (r.detector, "" if r.side == "none" else r.side)
        values["/".join(part for part in ("result", *place, r.metric) if part)] = [r.value]
        if r.ood:
            values.setdefault(f"result/{r.detector}/mean/{r.side}/{r.metric}", []).append(r.value)
    return {name: fmean(each) for name, each in values.items()}


def _log_to_wandb(
    logger: WandbLogger,
    records: Sequence[Record],
    scores: Mapping[str, NDArray[np.float64]],
    rows: Sequence[Row],
    figures: Sequence[Path],
) -> None:
    import wandb

    by_set: dict[tuple[str, str, str], dict[str, float]] = {}
    for r in records:
        if r.ood:
            by_set.setdefault((r.detector, r.ood, r.side), {})[r.metric] = r.value
    metrics = list(next(iter(by_set.values())))
    each = [[*place, *(found[name] for name in metrics)] for place, found in by_set.items()]
    table = [[r.table, r.dataset, r.method, r.epsilon, r.metric, r.value] for r in rows]
    columns: list[str | int] = ["table", "dataset", "method", "epsilon", "metric", "value"]
    logger.experiment.log(
        {
            **{name: wandb.Histogram(values.tolist(), num_bins=64) for name, values in scores.items()},
            "result/each_ood_set": wandb.Table(columns=["detector", "ood", "side", *metrics], data=each),
            "result/tables": wandb.Table(columns=columns, data=table),
            "result/scores": [wandb.Image(str(path)) for path in figures],
        }
    )


def _log_artifact(logger: WandbLogger, model: Path) -> None:
    import wandb

    artifact = wandb.Artifact(model.name, type="model")
    for file in ("weights.safetensors", "model.json"):
        artifact.add_file(str(model / file))
    logger.experiment.log_artifact(artifact)


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under names such as `attack/eval/epsilon`, Lightning's way and safe in W&B's own paths."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}/")
        else:
            found[f"{prefix}{key}"] = value
    return found


@contextmanager
def open_logger(
    settings: Mapping[str, Any], folder: Path, *, name: str, group: str, tags: Sequence[str]
) -> Iterator[Logger]:
    """The logger that the config's group `logger` names, closed at the end and told whether the run failed.

    A second W&B logger of one process would go on writing into a first one's run that was left open.
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
