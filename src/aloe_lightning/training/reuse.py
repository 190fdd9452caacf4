"""Trained weights for a net: given, trained before, or trained now."""

import logging
from typing import Any

import torch
from pytorch_lightning import Trainer

from aloe_lightning.data import RobustOODData
from aloe_lightning.errors import UserError
from aloe_lightning.objectives import Objective
from aloe_lightning.runtime.distributed import on_first_process, rank_and_world_size
from aloe_lightning.runtime.environment import environment_of
from aloe_lightning.runtime.progress import duration
from aloe_lightning.storage.cells import file_digest
from aloe_lightning.storage.divergence import require_finite_weights
from aloe_lightning.storage.models import TrainedModel
from aloe_lightning.storage.weights import load_weights, save_weights
from aloe_lightning.training.callbacks import StateSaver
from aloe_lightning.training.processes import lock_for_all
from aloe_lightning.training.trainer import fit

log = logging.getLogger(__name__)
DECIDING_PARTS = ("data", "outliers", "net", "objective", "optim", "trainer", "batch", "seed")
"""Parts of the config that the weights' file states; nothing else, so that the same training makes the same file."""


def trained_weights(
    config: dict[str, Any],
    trainer: Trainer,
    objective: Objective,
    data: RobustOODData,
    model: TrainedModel,
    saver: StateSaver,
) -> dict[str, Any]:
    """Put trained weights into the objective's net, training it if that is necessary.

    Of several processes only the first one's net is sure to have them: see `share_state`.

    Returns:
        The metadata of the training; empty for weights given by `checkpoint=`.

    Raises:
        UserError: if the weights do not fit, or the stored net was trained on other images.
    """
    label = config["objective"]["name"]
    if config["checkpoint"] is not None:
        load_weights(config["checkpoint"], objective.net)
        log.info("%s: weights of %s", label, config["checkpoint"])
        return {}
    data.setup("fit")
    model.folder.parent.mkdir(parents=True, exist_ok=True)
    with lock_for_all(model.lock, f"training {model.folder.name}"):
        stored = on_first_process(lambda: _stored(config, objective, data, model))
        if stored is not None:
            log.info("%s: trained before, in %s: %s", label, duration(stored["seconds"]), model.folder)
            return stored
        if rank_and_world_size()[0] == 0:
            model.start(discard=config["recompute"] == "training")
            _report_duplicates(label, data)
        log.info("%s: training", label)
        log.info("%s: precision %s, %d processor threads", label, trainer.precision, torch.get_num_threads())
        with saver.stop.deferred():
            fit(trainer, objective, data, model)
            require_finite_weights(objective.net)
            metadata = _metadata(config, trainer, data, saver)
            if rank_and_world_size()[0] == 0:
                log.info("%s: trained in %s", label, duration(saver.training_seconds))
                about = {**{key: config[key] for key in DECIDING_PARTS}, "attack": config["attack"]["train"]}
                save_weights(model.weights, objective.net, about)
                model.finish({**metadata, "weights": file_digest(model.weights)})
    return metadata


def _stored(
    config: dict[str, Any], objective: Objective, data: RobustOODData, model: TrainedModel
) -> dict[str, Any] | None:
    """Load the weights of an earlier training into this process's net; return its metadata, None if there is none."""
    if not (model.trained_by_this_command or (model.is_trained and config["recompute"] != "training")):
        return None
    _require_same_images(model, data)
    if (metadata := model.metadata).get("weights", digest := file_digest(model.weights)) != digest:
        raise UserError(
            f"{model.weights.absolute()} is damaged or replaced: its SHA-256 is not that of model.json; "
            "recompute=training trains the net again, checkpoint= takes the file as it is"
        )
    load_weights(model.weights, objective.net)
    return metadata


def _metadata(config: dict[str, Any], trainer: Trainer, data: RobustOODData, saver: StateSaver) -> dict[str, Any]:
    sizes = {key: value for key, value in data.sizes().items() if key in ("train", "outliers", "outliers_excluded")}
    return {
        "seconds": round(saver.training_seconds, 1),
        "steps": trainer.global_step,
        "trained_on": data.trained_on(),
        "sizes": sizes,
        "config": config,
        "precision": trainer.precision,
        **environment_of(trainer.strategy.root_device),
    }


def _report_duplicates(label: str, data: RobustOODData) -> None:
    if data.duplicates is not None:
        log.info("%s: outliers excluded because they are in distribution or in a test set: %s", label, data.duplicates)
    for place, count in data.overlaps().items():
        log.warning("%s: %d of the in-distribution %s images are also in %s", label, count, data.inliers.split, place)


def _require_same_images(model: TrainedModel, data: RobustOODData) -> None:
    normalisation = model.metadata.get("normalisation")  # of a net of version 0.1 on custom images
    if normalisation and normalisation != [list(data.inliers.mean), list(data.inliers.std)]:
        raise UserError(
            f"the net in {model.folder.absolute()} was trained with another normalisation, mean and std "
            f"{normalisation}: recompute=training trains it with that of the data"
        )
    if list(data.trained_on()) != list(model.metadata["trained_on"]):
        raise UserError(
            f"the net in {model.folder.absolute()} was trained on other images than data and outliers hold now: "
            "recompute=training trains it again, another paths.outputs keeps both"
        )
