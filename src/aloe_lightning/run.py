"""Run one cell: one data set, net, objective, budget and seed.

Train a net or reuse a trained one, evaluate, record, tabulate.
"""

import logging
import time
from pathlib import Path
from typing import Any

from pytorch_lightning import seed_everything

from aloe_lightning.attacks import ScoreAttack
from aloe_lightning.config.build import (
    build_attack,
    build_data,
    build_detectors,
    build_evaluation,
    build_net,
    build_objective,
    build_validation,
)
from aloe_lightning.data import RobustOODData, TestFolder
from aloe_lightning.detectors import CacheableDetector, CachedDetector, Detector, FitData
from aloe_lightning.errors import UserError
from aloe_lightning.evaluation.evaluate import evaluate
from aloe_lightning.evaluation.examples import save_examples
from aloe_lightning.evaluation.records import Cell, Record, read_records, records_of, write_records
from aloe_lightning.nets import with_features
from aloe_lightning.nets.saved import sizes_of
from aloe_lightning.objectives import Objective
from aloe_lightning.report import write_study
from aloe_lightning.report.leaderboard import ENTRY
from aloe_lightning.robustness.command import evaluate_given, result_of_cell
from aloe_lightning.runtime.distributed import on_first_process, rank_and_world_size, share_of, share_state
from aloe_lightning.runtime.environment import environment_of
from aloe_lightning.runtime.hardware import prepare_process
from aloe_lightning.runtime.process import StopRequest
from aloe_lightning.runtime.progress import duration
from aloe_lightning.storage.batches import BatchStore
from aloe_lightning.storage.cells import cell_name, custom_data_fingerprint, file_digest, is_done
from aloe_lightning.storage.files import remove_parts, write_json
from aloe_lightning.storage.fingerprints import fit_fingerprint, uses
from aloe_lightning.storage.models import TrainedModel
from aloe_lightning.storage.zoo import zoo_card, zoo_name
from aloe_lightning.tracking.loggers import flatten, open_logger
from aloe_lightning.tracking.results import log_results
from aloe_lightning.training.callbacks import StateSaver
from aloe_lightning.training.graphs import prepare_passes
from aloe_lightning.training.precision import resolved_precision
from aloe_lightning.training.processes import join_processes, lock_for_all
from aloe_lightning.training.reuse import trained_weights
from aloe_lightning.training.trainer import build_trainer, quiet_lightning

log = logging.getLogger(__name__)


def run_cell(config: dict[str, Any], folder: Path) -> list[Record]:
    """Run one cell of a study and rewrite the study's tables.

    Args:
        config: validated config as plain values.
        folder: run folder, inside the study folder.

    Returns:
        The cell's records.
    """
    quiet_lightning()
    with StopRequest().listening() as stop:
        join_processes(config["trainer"])
        _state_shares(config["batch"])
        with lock_for_all(folder / ".lock", f"computing {folder.name}"):
            # Another job may have computed the cell while this one waited.
            if on_first_process(lambda: config["recompute"] == "nothing" and is_done(config, folder)):
                log.info("done before: %s", folder)
                return read_records(folder / "records.jsonl")
            return _compute(config, folder, stop)


def _state_shares(batch: dict[str, int]) -> None:
    """Log the share of each process in a batch, if there are several."""
    shares = {kind: share_of(images, kind) for kind, images in batch.items()}
    rank, world_size = rank_and_world_size()
    if rank == 0 and world_size > 1:
        counts = " + ".join(f"{shares[kind]} of {images} {kind}" for kind, images in batch.items())
        log.info("%d processes: each takes %s of a batch", world_size, counts)


def _compute(config: dict[str, Any], folder: Path, stop: StopRequest) -> list[Record]:
    (folder / "records.jsonl").unlink(missing_ok=True)  # an unfinished run must not leave old records
    remove_parts(folder)
    seed_everything(config["seed"], workers=True, verbose=False)
    data = build_data(config, uses(config["objective"])[0])
    if isinstance(data.inliers, TestFolder):  # nothing to train: the net is given
        given = build_net(config, data.inliers), data.inliers, data.ood, build_detectors(config), build_attack(config)
        records = evaluate_given(config, folder, *given)
        write_study(folder.parent)
        return records
    objective = build_objective(config, build_net(config, data.inliers))
    if config["checkpoint"] is not None and (stated := sizes_of(objective.net)) and data.size not in stated:
        raise UserError(
            f"the given net expects {stated[0]} pixels, data.size is {data.size}: set data.size or net.size"
        )
    detectors, attack, settings = build_detectors(config), build_attack(config), build_evaluation(config)
    # Read all test sets before the training: fail now if one is missing, not hours later.
    id_set, ood_sets = data.test_set(settings.max_id), data.ood_sets(settings.max_ood)
    fit_data = _fit_data(config, data, detectors)
    validation = build_validation(config, data, settings)

    model, label = TrainedModel.of(config), config["objective"]["name"]
    with open_logger(config["logger"], folder, **_run_labels(config, objective)) as logger:
        logger.log_hyperparams(flatten(config))
        saver = StateSaver(model, config["checkpoint_seconds"], stop)
        precision = resolved_precision(config, model, objective.net, data.size)
        trainer = build_trainer({**config["trainer"], "precision": precision}, logger, saver, label, *validation)
        device = trainer.strategy.root_device
        prepare_process(device, config["tf32"])
        prepare_passes(objective.net, config["compile"], trainer)
        metadata = trained_weights(config, trainer, objective, data, model, saver)
        share_state(objective.net.to(device))

        classifier = with_features(objective.classifier(data.inliers.num_classes))
        started = time.monotonic()
        fit_fingerprints = {
            name: fit_fingerprint(config, name, detector.requires_outliers) for name, detector in detectors.items()
        }
        fits_folder = (folder if config["checkpoint"] else model.folder) / "detectors"
        cached = _cached(detectors, fit_fingerprints, config, fits_folder)
        identity = {
            "cell": cell_name(config),
            "weights": file_digest(config["checkpoint"] or model.weights),
            "files": custom_data_fingerprint(config),
        }
        store = BatchStore(folder, identity)
        if config["recompute"] != "nothing":
            on_first_process(store.discard)
        options = {"seed": config["seed"], "label": label, "data": fit_data, "store": store}
        evaluation = evaluate(classifier, cached, id_set, ood_sets, attack, settings, **options)
        seconds = round(time.monotonic() - started, 1)
        titles = {name: detector.title for name, detector in detectors.items()}
        cell = _cell(config, objective, attack.describe(), data, metadata)
        records = records_of(evaluation, cell, fit_fingerprints, titles)
        if rank_and_world_size()[0] == 0:
            log.info("%s: evaluated in %s", label, duration(seconds))
            write_json(folder / "config.json", config)
            write_json(folder / "data.json", {**data.sizes(), **metadata.get("sizes", {})})
            run_info = {
                **identity,
                "model": None if config["checkpoint"] else str(model.folder.absolute()),
                "train_seconds": metadata.get("seconds"),
                "evaluate_seconds": seconds,
                "train_precision": metadata.get("precision"),
                "precision": "bfloat16" if settings.bf16 else "float32",
            }
            write_json(folder / "versions.json", {**run_info, **environment_of(device)})
            evaluation.scores.save(folder / "scores.npz")
            save_examples(evaluation.examples, folder)
            if isinstance(attack, ScoreAttack):
                budget = "" if cell.train_epsilon is None else f" at epsilon {cell.train_epsilon:g}"
                title = f"{cell.objective_title}{budget}, {cell.net}, {cell.dataset}, seed {cell.seed}"
                sets = {"id": id_set, **ood_sets}
                result = result_of_cell(
                    title, objective.net, evaluation, detectors, sets, attack, cell.eval_epsilon, cell.seed
                )
                result.entry().write(folder / ENTRY)
            write_records(folder / "records.jsonl", records)
            store.discard()
            study = write_study(folder.parent)
            log_weights = config["logger"].get("artifact", False) and config["checkpoint"] is None
            log_results(logger, records, evaluation.scores, study, model.folder if log_weights else None)
            for run in study.left_out:
                log.info("%s: excluded from the tables (different protocol, version or data): %s", label, run)
    return records


def _run_labels(config: dict[str, Any], objective: Objective) -> dict[str, Any]:
    """Return display name, group and tags of a run."""
    data = config["data"]["name"]
    name = f"{data} {type(objective).__name__} ε={config['eval_epsilon']:g} seed {config['seed']}"
    return {"name": name, "group": config["group"], "tags": [data, config["objective"]["name"]]}


def _fit_data(config: dict[str, Any], data: RobustOODData, detectors: dict[str, Detector]) -> FitData:
    """Return the images that detectors may be fitted on; read the outliers now if a detector requires them."""
    if any(detector.requires_fit and detector.requires_outliers for detector in detectors.values()):
        data.outlier_images  # noqa: B018  fail now if a file is missing, not hours later
    return FitData(
        inliers=lambda: data.train_images,
        outliers=lambda: data.outlier_images,
        num_classes=data.inliers.num_classes,
        seed=config["seed"],
        batch_size=config["evaluation"]["batch_size"] or FitData.batch_size,
    )


def _cached(
    detectors: dict[str, Detector], fit_fingerprints: dict[str, str], config: dict[str, Any], folder: Path
) -> dict[str, Detector]:
    """Wrap the detectors that require a fit, so that it is stored for other cells of the same net."""
    refit, writes = config["recompute"] != "nothing" or config["checkpoint"] is not None, rank_and_world_size()[0] == 0
    return {
        name: CachedDetector(detector, folder, f"{name}-{fit_fingerprints[name]}", refit, writes)
        if detector.requires_fit and isinstance(detector, CacheableDetector)
        else detector
        for name, detector in detectors.items()
    }


def _cell(
    config: dict[str, Any], objective: Objective, attack: str, data: RobustOODData, metadata: dict[str, Any]
) -> Cell:
    perturbs = objective.perturbs_inliers or objective.perturbs_outliers
    zoo_net = zoo_name(config["checkpoint"])
    outliers_name = zoo_card(zoo_net)["training"]["outliers"] if zoo_net else config["outliers"].get("name") or ""
    inliers, outliers = metadata.get("trained_on") or (None, "")
    pixels, outlier_pixels = data.digests(None if inliers is None else (inliers, outliers))
    return Cell(
        dataset=config["data"]["name"],
        outliers=outliers_name if objective.uses_outliers else "",
        net=config["net"]["name"],
        objective=config["objective"]["name"],
        objective_title=type(objective).__name__,
        seed=config["seed"],
        train_epsilon=config["attack"]["train"]["epsilon"] if perturbs else None,
        eval_epsilon=config["attack"]["eval"]["epsilon"],
        regime=config["attack"]["name"],
        attack=attack,
        protocol=config["protocol"],
        split=data.inliers.split,
        pixels=pixels,
        outlier_pixels=outlier_pixels,
    )
