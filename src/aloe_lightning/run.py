"""One cell: read, train (or load), attack and score, record, tabulate. Everything lands in the run's folder."""

import json
import logging
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Trainer, seed_everything

from aloe_lightning.atomic import replacing
from aloe_lightning.build import (
    build_attack,
    build_data,
    build_detectors,
    build_evaluation,
    build_net,
    build_objective,
    with_statistics,
)
from aloe_lightning.checkpoint import load_weights, save_weights
from aloe_lightning.data import RobustOODData, process
from aloe_lightning.detectors import FitData, write_fitted
from aloe_lightning.evaluate import evaluate
from aloe_lightning.objectives import Objective
from aloe_lightning.progress import duration
from aloe_lightning.records import Cell, Record, records_of, write_records, write_scores
from aloe_lightning.report import write_report
from aloe_lightning.tracking import log_results, open_logger
from aloe_lightning.train import build_trainer, fit, quiet_lightning

log = logging.getLogger(__name__)
PACKAGES = ("aloe-lightning", "torch", "torchvision", "pytorch-lightning", "hydra-core", "omegaconf", "numpy")


def run_cell(config: dict[str, Any], folder: Path) -> list[Record]:
    """Run one cell of a study and rewrite the study's tables.

    Args:
        config: validated, plain values.
        folder: of the run; its parent is the study's.

    Returns:
        The cell's records.
    """
    quiet_lightning()
    config = with_statistics(config)
    label = config["objective"]["name"]
    (folder / "records.jsonl").unlink(missing_ok=True)  # until this run has ended, its cell has no result
    seed_everything(config["seed"], workers=True, verbose=False)
    objective = build_objective(config, build_net(config))
    data = build_data(config, objective.uses_outliers)
    detectors, attack, settings = build_detectors(config), build_attack(config), build_evaluation(config)
    # All test sets are read before anything is trained: what is missing is better known now than hours later.
    id_set, ood_sets = data.test_set(settings.max_id), data.ood_sets(settings.max_ood)

    tags = [config["data"]["name"], label]
    with open_logger(config["logger"], folder, name=folder.name, group=config["study"], tags=tags) as logger:
        logger.log_hyperparams(config)
        trainer = build_trainer(config["trainer"], logger, folder, label)
        started = time.monotonic()
        _train_or_load(config, trainer, objective, data, folder)
        trained = time.monotonic()
        objective.net.to(trainer.strategy.root_device)
        evaluation = evaluate(
            objective.net,
            detectors,
            id_set,
            ood_sets,
            attack,
            settings,
            seed=config["seed"],
            label=label,
            data=_fit_data(config, data) if any(detector.learns for detector in detectors.values()) else None,
        )
        ended = time.monotonic()
        records = records_of(evaluation, _cell(config, objective, attack.rounding, data))
        if process()[0] == 0:
            log.info(
                "%s: trained in %s, evaluated in %s", label, duration(trained - started), duration(ended - trained)
            )
            _keep_facts(config, folder, trainer, data, train_seconds=trained - started)
            write_scores(folder / "scores.npz", evaluation)
            write_fitted(folder / "detectors", evaluation.fitted)
            write_records(folder / "records.jsonl", records)
            report = write_report(folder.parent, records[0])
            log_results(logger, records, report.files)
            for run in report.left_out:
                log.info(
                    "%s: not in the table, made under another setting or version, or of other data: %s", label, run
                )
    return records


def _train_or_load(
    config: dict[str, Any], trainer: Trainer, objective: Objective, data: RobustOODData, folder: Path
) -> None:
    label = config["objective"]["name"]
    if config["checkpoint"] is not None:
        load_weights(config["checkpoint"], objective.net)
        log.info("%s: weights of %s", label, config["checkpoint"])
        return
    data.setup("fit")
    if data.duplicates is not None and process()[0] == 0:
        log.info("%s: outliers left out because they are in distribution or in a test set: %s", label, data.duplicates)
    for place, count in data.overlaps().items():
        log.warning("%s: %d of the in-distribution %s images are also in %s", label, count, data.inliers.split, place)
    log.info("%s: training", label)
    fit(trainer, objective, data, resume=config["resume"])
    if process()[0] == 0:
        save_weights(folder / "weights.pt", objective.net, {"config": config})


def _fit_data(config: dict[str, Any], data: RobustOODData) -> FitData:
    return FitData(
        inliers=data.train_images,
        outliers=data.outlier_images,
        num_classes=config["net"]["num_classes"],
        seed=config["seed"],
        batch_size=config["evaluation"]["batch_size"],
    )


def _cell(config: dict[str, Any], objective: Objective, rounding: str, data: RobustOODData) -> Cell:
    attacked_in_training = objective.perturbs_inliers or objective.perturbs_outliers
    pixels, outlier_pixels = data.digests()
    return Cell(
        dataset=config["data"]["name"],
        outliers=config["outliers"].get("name") or "" if objective.uses_outliers else "",
        net=config["net"]["name"],
        objective=config["objective"]["name"],
        seed=config["seed"],
        train_epsilon=config["attack"]["train"]["epsilon"] if attacked_in_training else None,
        eval_epsilon=config["attack"]["eval"]["epsilon"],
        regime=config["attack"]["eval"]["name"],
        rounding=rounding,
        setting=config["setting"],
        split=data.inliers.split,
        pixels=pixels,
        outlier_pixels=outlier_pixels,
    )


def _keep_facts(
    config: dict[str, Any], folder: Path, trainer: Trainer, data: RobustOODData, train_seconds: float
) -> None:
    """The config as it was understood, how many images that were, and what it ran on."""
    device = trainer.strategy.root_device
    cpu = f"{torch.get_num_threads()} CPU threads"
    facts = {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu,
        "train_seconds": round(train_seconds, 1),
        "packages": {name: version(name) for name in PACKAGES},
    }
    for name, content in (("config", config), ("data", data.sizes()), ("versions", facts)):
        with replacing(folder / f"{name}.json") as part:
            part.write_text(json.dumps(content, indent=2) + "\n")
