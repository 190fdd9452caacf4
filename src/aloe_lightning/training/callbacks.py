"""Training callbacks: checkpointing and progress display."""

import logging
import time
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from aloe_lightning.data import RobustOODData
from aloe_lightning.errors import UserError
from aloe_lightning.runtime.distributed import largest
from aloe_lightning.runtime.process import StopRequest
from aloe_lightning.runtime.progress import Bar, PlainLines, progress_display
from aloe_lightning.storage.files import atomic_write
from aloe_lightning.storage.models import TrainedModel

NOTHING, SAVE, SAVE_AND_STOP = range(3)

log = logging.getLogger(__name__)


class StateSaver(Callback):
    """Saves the state of a training at intervals, also within an epoch, so that a resumed training gives equal weights.

    Lightning repeats the first batches of a resumed epoch; this callback skips them. On a request to stop, the state is
    saved after the current batch and the process ends.

    Args:
        model: the trained net whose folder holds the state.
        seconds: save interval.
        stop: request to stop.
    """

    def __init__(self, model: TrainedModel, seconds: float, stop: StopRequest | None = None) -> None:
        self.model, self.seconds, self.stop = model, seconds, stop or StopRequest()
        self.seconds_before = 0.0
        self.started = self.saved = time.monotonic()

    @property
    def training_seconds(self) -> float:
        """Seconds of training, including those before an interruption."""
        return self.seconds_before + time.monotonic() - self.started

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Skip the batches that were seen before the interruption."""
        self.started = self.saved = time.monotonic()
        self.stop.handle()  # Lightning has installed handlers of its own
        if trainer.global_step:
            self.seconds_before = float(self.model.progress.get("seconds", 0))
            data: RobustOODData = trainer.datamodule  # type: ignore[attr-defined]
            data.skip_batches(trainer.fit_loop.epoch_loop.batch_progress.current.ready)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Save the state if it is due, and end the process if that was requested."""
        batches = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        # Never after the last batch of an epoch: Lightning miscounts epochs when it resumes there.
        if trainer.is_last_batch or batches % trainer.accumulate_grad_batches:
            return
        action = NOTHING if time.monotonic() - self.saved < self.seconds else SAVE
        action = SAVE_AND_STOP if self.stop.received else action
        if trainer.world_size > 1:
            # Processes agree only every ten steps, because the exchange waits for all of them.
            action = NOTHING if trainer.global_step % 10 else largest(action, trainer.strategy.root_device)
        if action == NOTHING:
            return
        saved = self._save(trainer)
        self.saved = time.monotonic()
        if action == SAVE_AND_STOP:
            if saved:
                log.info("asked to stop: saved step %d in %s", trainer.global_step, self.model.folder)
            self.stop.exit()

    def _save(self, trainer: Trainer) -> bool:
        """Save the state beside the last one and replace it; return False if the disk is full, and go on training."""
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.model.checkpoint, weights_only=False)  # takes part, writes nothing
            return True
        try:
            with atomic_write(self.model.checkpoint) as part:
                trainer.save_checkpoint(part, weights_only=False)
            steps = int(trainer.estimated_stepping_batches)
            self.model.save_progress(
                step=trainer.global_step,
                steps=steps,
                seconds=self.training_seconds,
                threads=torch.get_num_threads(),
            )
        except UserError as error:
            log.warning("the state of the training is not saved: %s", error)
            if trainer.world_size > 1:
                trainer.strategy.barrier()  # the other processes wait for the end of the saving
            return False
        return True


class TrainingProgress(Callback):
    """Show the steps of the training."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.display: PlainLines | Bar | None = None
        self.note = ""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the display at the current step, which is not 0 in a resumed training."""
        if trainer.is_global_zero:
            total = int(trainer.estimated_stepping_batches)
            self.display = progress_display(f"{self.label} training", total, "steps", already=trainer.global_step)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Show the step and the most recently logged loss."""
        if self.display is None:
            return
        # Only after steps that logged something: reading a metric synchronises with the device.
        if trainer.global_step % trainer.log_every_n_steps == 0 and "train/loss" in trainer.callback_metrics:  # type: ignore[attr-defined]
            self.note = f", loss {float(trainer.callback_metrics['train/loss']):.3f}"
        self.display.update(trainer.global_step, self.note)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the display."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the display."""
        self._close()

    def _close(self) -> None:
        if self.display is not None:
            self.display.close()
            self.display = None
