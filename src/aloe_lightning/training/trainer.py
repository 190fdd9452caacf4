"""Lightning's trainer for one objective."""

import logging
import signal
import warnings
from typing import Any

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import Logger

from aloe_lightning.data import RobustOODData
from aloe_lightning.errors import UserError
from aloe_lightning.objectives import Objective
from aloe_lightning.runtime.devices import assigned_devices
from aloe_lightning.runtime.distributed import on_first_process
from aloe_lightning.runtime.process import Stopped
from aloe_lightning.storage.files import zip_damage
from aloe_lightning.storage.models import TrainedModel
from aloe_lightning.training.callbacks import StateSaver, TrainingProgress

log = logging.getLogger(__name__)

IRRELEVANT_WARNINGS = (
    "does not have many workers",
    "LeafSpec",
    "exists and is not empty",
    "the logging interval",
    "dataloader is not resumable",
    "The `srun` command is available",
)


def quiet_lightning() -> None:
    """Suppress Lightning's advertisements and the warnings that do not apply to our loaders."""
    for name in ("pytorch_lightning.utilities.rank_zero", "pytorch_lightning.accelerators.cuda"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in IRRELEVANT_WARNINGS:
        warnings.filterwarnings("ignore", message=f".*{message}.*")


def build_trainer(
    settings: dict[str, Any], logger: Logger, saver: StateSaver, label: str, *callbacks: Callback
) -> Trainer:
    """Return a Lightning trainer with the arguments of the config's section `trainer`, and with further callbacks.

    It leaves our batches as they are: `EpochSampler` shares them among processes (`use_distributed_sampler=False`).

    Raises:
        UserError: for arguments that Lightning refuses.
    """
    try:
        return Trainer(
            **{
                **settings,
                "devices": assigned_devices(settings["devices"]),
                # The fastest algorithm is found by timing: another one in another run.
                "benchmark": settings["benchmark"] and not settings["deterministic"],
            },
            logger=logger,
            callbacks=[TrainingProgress(label), saver, *callbacks],
            default_root_dir=saver.model.folder,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            use_distributed_sampler=False,
            inference_mode=False,
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"config: trainer: {str(error).splitlines()[0]}") from error


def fit(trainer: Trainer, objective: Objective, data: RobustOODData, model: TrainedModel) -> None:
    """Train, from the beginning or from the last saved state of an interrupted training of the same net."""
    handler = signal.getsignal(signal.SIGINT)
    device = trainer.strategy.root_device
    try:
        state = on_first_process(lambda: saved_state(model, device))
        trainer.fit(objective, datamodule=data, ckpt_path=state, weights_only=True)
    except Stopped:
        raise
    except SystemExit as end:
        # Lightning turns Ctrl-C into this, and ignores the signal from then on.
        if trainer.interrupted:
            raise KeyboardInterrupt from end
        raise
    finally:
        if signal.getsignal(signal.SIGINT) is not handler:
            signal.signal(signal.SIGINT, handler)


def saved_state(model: TrainedModel, device: torch.device) -> str | None:
    """Return the file that a training on the device resumes from; None if there is none, or if it is damaged."""
    if not model.checkpoint.is_file():
        return None
    try:
        if damage := zip_damage(model.checkpoint):
            raise ValueError(damage)
        step = int(torch.load(model.checkpoint, map_location="cpu", weights_only=True)["global_step"])
    except Exception as error:  # torch raises whatever the damage suggests
        log.warning("%s is damaged (%s): training from the beginning", model.checkpoint, error or type(error).__name__)
        return None
    log.info("resuming after step %d of an interrupted training: %s", step, model.folder)
    before, now = int(model.progress.get("threads", 0)), torch.get_num_threads()
    if before and before != now and device.type == "cpu":
        log.warning(
            "saved with %d processor threads, continued with %d: the weights will differ by rounding from those of an "
            "undisturbed training; OMP_NUM_THREADS=%d makes them equal",
            before,
            now,
            before,
        )
    return str(model.checkpoint)
