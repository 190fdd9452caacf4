"""Fit one objective with Lightning: trainer, checkpoints, and progress that a person can read."""

import logging
import signal
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger

from aloe_lightning.data import RobustOODData
from aloe_lightning.errors import UserError
from aloe_lightning.objectives import Objective
from aloe_lightning.progress import Bar, PlainLines, meter

log = logging.getLogger(__name__)


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
    for message in ("does not have many workers", "LeafSpec", "exists and is not empty", "the logging interval"):
        warnings.filterwarnings("ignore", message=f".*{message}.*")


def build_trainer(settings: dict[str, Any], logger: Logger, folder: Path, label: str) -> Trainer:
    """A Lightning trainer from the config's group `trainer`.

    It leaves our batches as they are (`use_distributed_sampler=False`: `EpochPlan` shares them among processes) and
    keeps the state of the last finished epoch in `last.ckpt`.
    """
    keep = ModelCheckpoint(folder, filename="last", save_top_k=1, every_n_epochs=1, enable_version_counter=False)
    try:
        return Trainer(
            **settings,
            logger=logger,
            callbacks=[TrainingProgress(label), keep],
            default_root_dir=folder,
            enable_model_summary=False,
            enable_progress_bar=False,
            use_distributed_sampler=False,
            inference_mode=False,
        )
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"config: trainer: {str(error).splitlines()[0]}") from error


def fit(trainer: Trainer, objective: Objective, data: RobustOODData, *, resume: bool) -> None:
    """Train, from the beginning or from the `last.ckpt` that an interrupted run of the same cell left.

    Raises:
        UserError: if there is a `last.ckpt` to resume from and it cannot be read.
    """
    last = Path(trainer.default_root_dir) / "last.ckpt"
    if not resume:
        last.unlink(missing_ok=True)
    elif last.is_file():
        try:
            step = torch.load(last, map_location="cpu", weights_only=True)["global_step"]
        except Exception as error:  # torch raises whatever the damage suggests
            raise UserError(
                f"cannot resume from {last.absolute()}: it is damaged; start afresh without resume"
            ) from error
        log.info("resuming after step %d", step)
    else:
        log.info("nothing to resume from in %s: training from the beginning", last.parent)
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(objective, datamodule=data, ckpt_path=str(last) if last.is_file() else None, weights_only=True)
    except SystemExit as end:
        # What Lightning makes of Ctrl-C, which it ignores from then on.
        if trainer.interrupted:
            raise KeyboardInterrupt from end
        raise
    finally:
        if signal.getsignal(signal.SIGINT) is not handler:
            signal.signal(signal.SIGINT, handler)
