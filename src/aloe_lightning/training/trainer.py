"""Fit one objective with Lightning: trainer, checkpoints, and progress that a person can read."""

import logging
import signal
import time
import warnings
from typing import Any

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import Logger

from aloe_lightning.data import RobustOODData
from aloe_lightning.errors import UserError
from aloe_lightning.objectives import Objective
from aloe_lightning.runtime.progress import Bar, PlainLines, meter
from aloe_lightning.storage.store import Model

log = logging.getLogger(__name__)


class StateKeeper(Callback):
    """Keeps the state of a training every so often, also amid an epoch, and goes on from there to the same weights.

    Lightning counts the batches of a resumed epoch rightly and then takes its first ones again, so the order of the
    images is moved on here.

    Args:
        model: where the state is kept.
        seconds: between two savings.
    """

    def __init__(self, model: Model, seconds: float) -> None:
        self.model, self.seconds = model, seconds
        self.before = 0.0
        self.started = self.kept = time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds of training, those before an interruption too."""
        return self.before + time.monotonic() - self.started

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the data on to where the training stands."""
        self.started = self.kept = time.monotonic()
        if trainer.global_step:
            self.before = float(self.model.progress.get("seconds", 0))
            data: RobustOODData = trainer.datamodule  # type: ignore[attr-defined]
            data.skip_batches(trainer.fit_loop.epoch_loop.batch_progress.current.ready)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Keep the state if it is time to."""
        batches = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        # An epoch's last batch is passed over: from a state kept there Lightning does not count the epoch right.
        if trainer.is_last_batch or batches % trainer.accumulate_grad_batches:
            return
        due = time.monotonic() - self.kept >= self.seconds
        if trainer.world_size > 1 and trainer.global_step % 10 == 0:
            due = bool(trainer.strategy.broadcast(due))
        elif trainer.world_size > 1:
            due = False
        if due:
            if trainer.is_global_zero:
                steps = int(trainer.estimated_stepping_batches)
                self.model.note(step=trainer.global_step, steps=steps, seconds=self.spent)
            trainer.save_checkpoint(self.model.checkpoint, weights_only=False)
            self.kept = time.monotonic()


class TrainingProgress(Callback):
    """How far the whole training is, epochs or not."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.shown: PlainLines | Bar | None = None
        self.note = ""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin where a resumed training begins."""
        if trainer.is_global_zero:
            total = int(trainer.estimated_stepping_batches)
            self.shown = meter(f"{self.label} training", total, "steps", already=trainer.global_step)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Show the step and the loss last logged."""
        if self.shown is None:
            return
        # Only where something was logged: reading a metric waits for the device.
        if trainer.global_step % trainer.log_every_n_steps == 0 and "train/loss" in trainer.callback_metrics:  # type: ignore[attr-defined]
            self.note = f", loss {float(trainer.callback_metrics['train/loss']):.3f}"
        self.shown.update(trainer.global_step, self.note)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tidy up."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Tidy up."""
        self._close()

    def _close(self) -> None:
        if self.shown is not None:
            self.shown.close()
            self.shown = None


def quiet_lightning() -> None:
    """Drop Lightning's advertisements and the warnings that our loaders make irrelevant."""
    for name in ("pytorch_lightning.utilities.rank_zero", "pytorch_lightning.accelerators.cuda"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        "does not have many workers",
        "LeafSpec",
        "exists and is not empty",
        "the logging interval",
        "dataloader is not resumable",
    ):
        warnings.filterwarnings("ignore", message=f".*{message}.*")


def build_trainer(settings: dict[str, Any], logger: Logger, keeper: StateKeeper, label: str) -> Trainer:
    """A Lightning trainer from the config's group `trainer`.

    It leaves our batches as they are: `EpochSampler` shares them among processes (`use_distributed_sampler=False`).
    """
    try:
        return Trainer(
            **settings,
            logger=logger,
            callbacks=[TrainingProgress(label), keeper],
            default_root_dir=keeper.model.folder,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            use_distributed_sampler=False,
            inference_mode=False,
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"config: trainer: {str(error).splitlines()[0]}") from error


def fit(trainer: Trainer, objective: Objective, data: RobustOODData, model: Model) -> None:
    """Train, from the beginning or from where an interrupted training of the same net was last kept."""
    resumed = None
    if model.checkpoint.is_file():
        try:
            step = torch.load(model.checkpoint, map_location="cpu", weights_only=True)["global_step"]
        except Exception as error:  # torch raises whatever the damage suggests
            log.warning("%s is damaged (%s): training from the beginning", model.checkpoint, type(error).__name__)
        else:
            log.info("going on after step %d of an interrupted training: %s", step, model.folder)
            resumed = str(model.checkpoint)
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(objective, datamodule=data, ckpt_path=resumed, weights_only=True)
    except SystemExit as end:
        # What Lightning makes of Ctrl-C, which it ignores from then on.
        if trainer.interrupted:
            raise KeyboardInterrupt from end
        raise
    finally:
        if signal.getsignal(signal.SIGINT) is not handler:
            signal.signal(signal.SIGINT, handler)
