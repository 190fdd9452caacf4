"""Results of a run for its logger: a few scalars, one table of everything else, the score figure and histograms."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import fmean

import numpy as np
import pandas as pd
from PIL import Image
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger

from aloe_lightning.evaluation.records import Record, Side
from aloe_lightning.evaluation.scores import Scores
from aloe_lightning.report import StudyReport
from aloe_lightning.report.figures.scores import CONDITIONS
from aloe_lightning.tracking.loggers import SECONDS_FOR_FILES, warning_only

HEADLINE_METRICS = ("auroc", "fpr95")
HEADLINE_SIDES: dict[Side, str] = {"none": "clean", "both": "attacked"}
HP_METRIC = "hp_metric"
"""The scalar that TensorBoard compares settings by: attacked AUROC of the first detector, mean over the OOD sets."""


@partial(warning_only, seconds=SECONDS_FOR_FILES)
def log_results(
    logger: Logger, records: Sequence[Record], scores: Scores, report: StudyReport, weights: Path | None
) -> None:
    """Log the scalars of `headlines`; to W&B and TensorBoard also a table of all records and the study's score figure.

    TensorBoard also gets histograms of the scores and the settings with the results (HParams), W&B the weights, from
    the folder `weights` of a trained net.
    """
    figures = [path for path in report.files if path.suffix == ".png"]
    values = headlines(records)
    if isinstance(logger, TensorBoardLogger):
        _log_to_tensorboard(logger, values, records, scores, figures)
    else:
        logger.log_metrics(values)
    if isinstance(logger, WandbLogger):
        _log_to_wandb(logger, records, figures, weights)


def headlines(records: Sequence[Record]) -> dict[str, float]:
    """Return AUROC and FPR95 of each detector, means over the OOD sets, and the accuracy, clean and attacked.

    Returns:
        Fractions by `result/<detector>/<metric>_clean` and `..._attacked` (both sides), `result/accuracy_clean` and, if
        the classifier was attacked, `result/accuracy_attacked`.
    """
    values: dict[str, list[float]] = {}
    for r in records:
        if r.ood and r.metric in HEADLINE_METRICS and r.side in HEADLINE_SIDES:
            values.setdefault(f"result/{r.detector}/{r.metric}_{HEADLINE_SIDES[r.side]}", []).append(r.value)
        elif r.metric == "accuracy":
            values[f"result/accuracy_{'clean' if r.side == 'none' else 'attacked'}"] = [r.value]
    return {name: fmean(numbers) for name, numbers in values.items()}


def results_table(records: Sequence[Record]) -> pd.DataFrame:
    """Tabulate all records: a row for each detector, OOD set and attacked side, a column for each metric.

    Rows of the classifier have no detector, and rows without an OOD set no `ood`: both are "".
    """
    frame = pd.DataFrame([asdict(record) for record in records])
    place = ["detector", "ood", "side"]
    table = frame.groupby([*place, "metric"], sort=False).value.first().unstack("metric")
    return table[frame.metric.unique()].reset_index().rename_axis(columns=None)


def _log_to_tensorboard(
    logger: TensorBoardLogger,
    values: Mapping[str, float],
    records: Sequence[Record],
    scores: Scores,
    figures: Sequence[Path],
) -> None:
    first = next((values[f"result/{d}/auroc_attacked"] for d in scores.detectors), None)
    compared = {} if first is None else {HP_METRIC: first}
    logger.log_hyperparams(dict(logger.hparams), {**compared, **values})  # logs the scalars, too
    table = results_table(records)
    lines = [list(table.columns), ["---"] * table.shape[1]]
    lines += [["" if v != v else v if isinstance(v, str) else f"{v:.4f}" for v in row] for row in table.values.tolist()]
    logger.experiment.add_text("result/table", "\n".join(f"| {' | '.join(line)} |" for line in lines))
    for detector in scores.detectors:
        for condition in CONDITIONS:
            sides = {"id": scores[detector, "id", condition], "ood": scores.pooled_ood(detector, condition)}
            for side, shown in sides.items():
                logger.experiment.add_histogram(f"scores/{detector}/{side}/{condition}", shown)
    for path in figures:
        logger.experiment.add_image("result/scores", np.asarray(Image.open(path).convert("RGB")), dataformats="HWC")


def _log_to_wandb(
    logger: WandbLogger, records: Sequence[Record], figures: Sequence[Path], weights: Path | None
) -> None:
    import wandb

    table = results_table(records).astype(object)
    rows = table.where(table.notna(), None).values.tolist()
    logger.experiment.log(
        {
            "result/table": wandb.Table(columns=list(table.columns), data=rows),
            "result/scores": [wandb.Image(str(path)) for path in figures],
        }
    )
    if weights is not None:
        artifact = wandb.Artifact(weights.name, type="model")
        for file in ("weights.safetensors", "model.json"):
            artifact.add_file(str(weights / file))
        logger.experiment.log_artifact(artifact)
