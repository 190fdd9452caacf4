"""Trained nets, stored under their fingerprint and shared by all cells that evaluate them."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aloe_lightning.storage.files import read_json, remove_parts, write_json
from aloe_lightning.storage.fingerprints import model_name

FOLDER = "models"
"""Folder of the nets under `paths.outputs`."""


@dataclass(frozen=True)
class TrainedModel:
    """The folder of a trained net.

    Attributes:
        folder: folder named by the fingerprint. It holds `weights.safetensors` and `model.json` after the training, and
            `last.ckpt` with `progress.json` before.
    """

    folder: Path

    @classmethod
    def of(cls, config: dict[str, Any]) -> "TrainedModel":
        """Return the net that a validated config describes."""
        return cls(Path(config["paths"]["outputs"]) / FOLDER / model_name(config))

    @property
    def weights(self) -> Path:
        """The file of the weights."""
        return self.folder / "weights.safetensors"

    @property
    def checkpoint(self) -> Path:
        """The file with the state of an unfinished training."""
        return self.folder / "last.ckpt"

    @property
    def precision(self) -> Path:
        """The file with the measured precision of a training with `trainer.precision=auto`."""
        return self.folder / "precision.json"

    @property
    def lock(self) -> Path:
        """The file that is locked during the training."""
        return self.folder.parent / f".{self.folder.name}.lock"

    @property
    def is_trained(self) -> bool:
        """True if the training has ended: the metadata are written last."""
        return self.weights.is_file() and bool(self.metadata)

    @property
    def trained_by_this_command(self) -> bool:
        """True if the training has ended since this command was started."""
        return self.is_trained and (self.folder / "model.json").stat().st_mtime >= command_started()

    @property
    def metadata(self) -> dict[str, Any]:
        """Seconds, steps, sizes and digests of the training, and its config; empty before its end."""
        return read_json(self.folder / "model.json", ("seconds", "steps", "trained_on", "sizes", "config"))

    @property
    def progress(self) -> dict[str, float]:
        """`step`, `steps`, `seconds` and processor `threads` of an unfinished training; empty if there is none."""
        if not self.checkpoint.is_file():
            return {}
        return read_json(self.folder / "progress.json", ("step", "steps", "seconds"))

    def start(self, *, discard: bool) -> None:
        """Create the folder; `discard` removes the files of an earlier training."""
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_parts(self.folder)
        if discard:
            for name in ("model.json", "weights.safetensors", "last.ckpt", "progress.json"):
                (self.folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.folder / "detectors", ignore_errors=True)  # fitted on another net

    def save_progress(self, **progress: float) -> None:
        """Save the progress of the training, next to its state."""
        write_json(self.folder / "progress.json", progress)

    def finish(self, metadata: dict[str, Any]) -> None:
        """Mark the training as ended, given that its weights exist, and delete its state."""
        write_json(self.folder / "model.json", metadata)
        for file in (self.checkpoint, self.folder / "progress.json"):
            file.unlink(missing_ok=True)


def command_started() -> float:
    """Return when this command was started, also in the processes of its launcher; seconds since the epoch."""
    return float(os.environ.get("ALOE_STARTED", "inf"))
