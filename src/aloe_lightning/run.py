"""One cell: read, train (or take what is trained), attack and score, record, tabulate."""

import logging
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Trainer, seed_everything

from aloe_lightning.config.build import (
    build_attack,
    build_data,
    build_detectors,
    build_evaluation,
    build_net,
    build_objective,
    with_statistics,
)
from aloe_lightning.data import RobustOODData
from aloe_lightning.detectors import Detector, FitData, KeptDetector, Restorable
from aloe_lightning.errors import UserError
from aloe_lightning.evaluation.evaluate import evaluate
from aloe_lightning.evaluation.records import Cell, Record, write_records
from aloe_lightning.evaluation.results import records_of, write_scores
from aloe_lightning.objectives import Objective
from aloe_lightning.paper.methods import OBJECTIVE_TITLES
from aloe_lightning.report import write_report
from aloe_lightning.runtime.distributed import rank_and_world_size
from aloe_lightning.runtime.hardware import compile_net, prepare
from aloe_lightning.runtime.progress import duration
from aloe_lightning.storage.files import file_lock
from aloe_lightning.storage.fingerprints import fingerprint
from aloe_lightning.storage.store import Model, cell_name, custom_data_fingerprint, digest, write_json
from aloe_lightning.storage.weights import load_weights, save_weights
from aloe_lightning.tracking.loggers import flat, log_results, open_logger
from aloe_lightning.training.trainer import StateKeeper, build_trainer, fit, quiet_lightning

log = logging.getLogger(__name__)
OF_TRAINING = ("data", "outliers", "net", "objective", "optim", "trainer", "batch", "seed")
PACKAGES = ("aloe-lightning", "torch", "torchvision", "pytorch-lightning", "hydra-core", "omegaconf", "numpy")


def run_cell(asked: dict[str, Any], folder: Path) -> list[Record]:
    """Run one cell of a study and rewrite the study's tables.

    Args:
        asked: the config, validated, plain values.
        folder: of the run; its parent is the study's.

    Returns:
        The cell's records.
    """
    quiet_lightning()
    model, config = Model.of(asked), with_statistics(asked)
    label = config["objective"]["name"]
    (folder / "records.jsonl").unlink(missing_ok=True)  # until this run has ended, its cell has no result
    seed_everything(config["seed"], workers=True, verbose=False)
    objective = build_objective(config, build_net(config))
    data = build_data(config, objective.uses_outliers)
    detectors, attack, settings = build_detectors(config), build_attack(config), build_evaluation(config)
    # All test sets are read before anything is trained: what is missing is better known now than hours later.
    id_set, ood_sets = data.test_set(settings.max_id), data.ood_sets(settings.max_ood)
    learning = [name for name, detector in detectors.items() if detector.learns]
    fit_data = _fit_data(config, data) if learning else None

    tags, name = [config["data"]["name"], label], f"{config['data']['name']} {method_name(config)}"
    with open_logger(config["logger"], folder, name=name, group=config["group"], tags=tags) as logger:
        logger.log_hyperparams(flat(config))
        keeper = StateKeeper(model, config["checkpoint_seconds"])
        trainer = build_trainer(config["trainer"], logger, keeper, label)
        prepare(trainer.strategy.root_device, config["tf32"])
        compile_net(objective.net, config["compile"], trainer.strategy.root_device)
        card = _train_or_load(config, trainer, objective, data, model, keeper)
        trained = time.monotonic()
        objective.net.to(trainer.strategy.root_device)
        fits = {name: _fit_identity(asked, name) for name in detectors}
        detectors = _kept(detectors, fits, config, (folder if config["checkpoint"] else model.folder) / "detectors")
        evaluation = evaluate(
            objective.net,
            detectors,
            id_set,
            ood_sets,
            attack,
            settings,
            seed=config["seed"],
            label=label,
            data=fit_data,
        )
        evaluated = time.monotonic() - trained
        records = records_of(evaluation, _cell(config, objective, attack.rounding, data, card), fits)
        if rank_and_world_size()[0] == 0:
            log.info("%s: evaluated in %s", label, duration(evaluated))
            write_json(folder / "config.json", config)
            write_json(folder / "data.json", {**data.sizes(), **card.get("sizes", {})})
            facts = {
                "cell": cell_name(asked),
                "weights": digest(config["checkpoint"] or model.weights),
                "files": custom_data_fingerprint(asked),
                "model": None if config["checkpoint"] else str(model.folder.absolute()),
                "train_seconds": card.get("seconds"),
                "evaluate_seconds": round(evaluated, 1),
            }
            write_json(folder / "versions.json", {**facts, **_surroundings(trainer)})
            write_scores(folder / "scores.npz", evaluation)
            write_records(folder / "records.jsonl", records)
            report = write_report(folder.parent, records)
            gives_weights = config["logger"].get("artifact", False) and config["checkpoint"] is None
            log_results(logger, records, evaluation, report, model.folder if gives_weights else None)
            for run in report.left_out:
                log.info(
                    "%s: not in the table, made under another setting or version, or of other data: %s", label, run
                )
    return records


def method_name(config: dict[str, Any]) -> str:
    """Of a run, for people: objective, budget and seed."""
    title = OBJECTIVE_TITLES.get(config["objective"]["name"], config["objective"]["name"])
    return f"{title} ε={config['eval_epsilon']:g} seed {config['seed']}"


def _train_or_load(
    config: dict[str, Any],
    trainer: Trainer,
    objective: Objective,
    data: RobustOODData,
    model: Model,
    keeper: StateKeeper,
) -> dict[str, Any]:
    """Put trained weights into the objective's net; what is known of their training."""
    label = config["objective"]["name"]
    if config["checkpoint"] is not None:
        load_weights(config["checkpoint"], objective.net)
        log.info("%s: weights of %s", label, config["checkpoint"])
        return {}
    data.setup("fit")
    with _held(model, trainer):
        if model.trained_now or (model.trained and config["recompute"] != "training"):
            refuse_other_pixels(model, data)
            load_weights(model.weights, objective.net)
            log.info("%s: trained before, in %s: %s", label, duration(model.card["seconds"]), model.folder)
            return model.card
        if trainer.is_global_zero:
            model.begin(afresh=config["recompute"] == "training")
        if rank_and_world_size()[0] == 0:
            if data.duplicates is not None:
                log.info("%s: outliers left out, in distribution or in a test set: %s", label, data.duplicates)
            for place, count in data.overlaps().items():
                log.warning(
                    "%s: %d of the in-distribution %s images are also in %s", label, count, data.inliers.split, place
                )
        log.info("%s: training", label)
        fit(trainer, objective, data, model)
        sizes = {key: value for key, value in data.sizes().items() if key in ("train", "outliers", "outliers_left_out")}
        card = {
            "seconds": round(keeper.spent, 1),
            "steps": trainer.global_step,
            "trained_on": data.trained_on(),
            "sizes": sizes,
            "config": config,
            **_surroundings(trainer),
        }
        if rank_and_world_size()[0] == 0:
            log.info("%s: trained in %s", label, duration(keeper.spent))
            # Nothing but what decides the weights, so that the same training makes the same file.
            about = {**{key: config[key] for key in OF_TRAINING}, "attack": config["attack"]["train"]}
            save_weights(model.weights, objective.net, about)
            model.end(card)
    return card


def refuse_other_pixels(model: Model, data: RobustOODData) -> None:
    """Raise UserError if a kept net was trained on other images than lie there now."""
    if list(data.trained_on()) != list(model.card["trained_on"]):
        raise UserError(
            f"the net in {model.folder.absolute()} was trained on other images than data and outliers hold now: "
            "recompute=training trains it again, another paths.outputs keeps both"
        )


@contextmanager
def _held(model: Model, trainer: Trainer) -> Iterator[None]:
    """Keep other jobs from training the same net meanwhile; the further processes of one training share its hold."""
    if not trainer.is_global_zero:
        yield
        return
    model.folder.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(model.folder.parent / f".{model.folder.name}.lock", f"training {model.folder.name}"):
        yield


def _fit_identity(asked: dict[str, Any], name: str) -> str:
    """What tells the fit of a detector on a net from others: its settings, and what it may learn from."""
    parts = {key: asked[key] for key in ("data", "outliers", "ood", "duplicates")}
    return fingerprint({**parts, "detector": {name: asked["detector"][name]}}, "cell")


def _kept(
    detectors: dict[str, Detector], fits: dict[str, str], config: dict[str, Any], home: Path
) -> dict[str, Detector]:
    """The detectors, those that learn with a place to keep it for other cells of the same net."""
    afresh, writes = config["recompute"] != "nothing" or config["checkpoint"] is not None, rank_and_world_size()[0] == 0
    return {
        name: KeptDetector(one, home, f"{name}-{fits[name]}", afresh, writes)
        if one.learns and isinstance(one, Restorable)
        else one
        for name, one in detectors.items()
    }


def _fit_data(config: dict[str, Any], data: RobustOODData) -> FitData:
    return FitData(
        inliers=data.train_images,
        outliers=data.outlier_images,
        num_classes=config["net"]["num_classes"],
        seed=config["seed"],
        batch_size=config["evaluation"]["batch_size"] or FitData.batch_size,
    )


def _cell(
    config: dict[str, Any], objective: Objective, rounding: str, data: RobustOODData, card: dict[str, Any]
) -> Cell:
    attacked_in_training = objective.perturbs_inliers or objective.perturbs_outliers
    inliers, outliers = card.get("trained_on") or (None, "")
    pixels, outlier_pixels = data.digests(None if inliers is None else (inliers, outliers))
    return Cell(
        dataset=config["data"]["name"],
        outliers=config["outliers"].get("name") or "" if objective.uses_outliers else "",
        net=config["net"]["name"],
        objective=config["objective"]["name"],
        objective_title=type(objective).__name__,
        seed=config["seed"],
        train_epsilon=config["attack"]["train"]["epsilon"] if attacked_in_training else None,
        eval_epsilon=config["attack"]["eval"]["epsilon"],
        regime=config["attack"]["eval"]["name"],
        attack=rounding,
        protocol=config["protocol"],
        split=data.inliers.split,
        pixels=pixels,
        outlier_pixels=outlier_pixels,
    )


def _surroundings(trainer: Trainer) -> dict[str, Any]:
    """What something ran on, and how it was asked for."""
    device = trainer.strategy.root_device
    cpu = f"{torch.get_num_threads()} CPU threads"
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu,
        "packages": {name: version(name) for name in PACKAGES},
    }
