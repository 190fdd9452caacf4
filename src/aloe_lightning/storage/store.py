"""What is already computed: trained nets by what they are, and finished cells. Nothing done is done again."""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from aloe_lightning.storage.files import atomic_write
from aloe_lightning.storage.fingerprints import fingerprint, model_name

FOLDER = "models"
"""Under `paths.outputs`."""
FAILED = "failed.log"
"""In the folder of a sweep's cell that failed: why."""


@dataclass(frozen=True)
class Model:
    """The place of a trained net, shared by all cells that evaluate it.

    Attributes:
        folder: named after what is trained; `weights.safetensors` and `model.json` once that has ended, and until then
            `last.ckpt` with `progress.json`.
    """

    folder: Path

    @classmethod
    def of(cls, config: dict[str, Any]) -> "Model":
        """The place of the net that a validated config describes."""
        return cls(Path(config["paths"]["outputs"]) / FOLDER / model_name(config))

    @property
    def weights(self) -> Path:
        """The weights."""
        return self.folder / "weights.safetensors"

    @property
    def checkpoint(self) -> Path:
        """The state of a training that has not ended."""
        return self.folder / "last.ckpt"

    @property
    def trained(self) -> bool:
        """Whether the training has ended: the card is written last."""
        return (self.folder / "model.json").is_file() and self.weights.is_file()

    @property
    def trained_now(self) -> bool:
        """Whether the training has ended since this command was started."""
        return self.trained and (self.folder / "model.json").stat().st_mtime >= started()

    @cached_property
    def card(self) -> dict[str, Any]:
        """Of a trained net: seconds, steps, sizes and digests of what it was trained on."""
        found: dict[str, Any] = json.loads((self.folder / "model.json").read_text())
        return found

    @property
    def progress(self) -> dict[str, float]:
        """`step`, `steps` and `seconds` of a training that has not ended; empty if nothing of it is kept."""
        file = self.folder / "progress.json"
        found: dict[str, float] = json.loads(file.read_text()) if file.is_file() and self.checkpoint.is_file() else {}
        return found

    def begin(self, afresh: bool) -> None:
        """Make the folder; `afresh` drops what is there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if afresh:
            for name in ("model.json", "weights.safetensors", "last.ckpt", "progress.json"):
                (self.folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.folder / "detectors", ignore_errors=True)  # what was fitted on another net

    def note(self, **progress: float) -> None:
        """Keep how far a training is, beside its state."""
        write_json(self.folder / "progress.json", progress)

    def end(self, card: dict[str, Any]) -> None:
        """Declare the training ended; its weights are there, its state is no longer wanted."""
        write_json(self.folder / "model.json", card)
        for file in (self.checkpoint, self.folder / "progress.json"):
            file.unlink(missing_ok=True)


def is_done(config: dict[str, Any], folder: Path) -> bool:
    """Whether a cell's results lie in its folder, and are those that the config asks for."""
    facts = facts_of(folder)
    if not (folder / "records.jsonl").is_file() or facts.get("cell") != cell_name(config):
        return False
    weights = digest(config["checkpoint"] or Model.of(config).weights)
    if weights != facts.get("weights") and (weights or config["checkpoint"]):  # a net may be deleted, not another
        return False
    return facts.get("files") == custom_data_fingerprint(config)


def custom_data_fingerprint(config: dict[str, Any]) -> str:
    """What tells images of one's own from others without reading them: names, sizes, times of change; "" for none."""
    places: set[str] = set()
    for node in (config["data"], config["outliers"], *config["ood"].values()):
        places |= {node[key] for key in ("path", "train", "test") if isinstance(node.get(key), str)}
    found = []
    for place in sorted(Path(place).expanduser().absolute() for place in places):
        files = [place] if place.is_file() else sorted(place.rglob("*"))
        found += [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
    return hashlib.sha256(repr(found).encode()).hexdigest()[:16] if found else ""


def started() -> float:
    """When this command was started, in the processes of its launcher, too; seconds since the epoch."""
    return float(os.environ.get("ALOE_STARTED", "inf"))


def cell_name(config: dict[str, Any]) -> str:
    """What a cell is, in words and a fingerprint, whatever its folder is called."""
    budgets = f"train{config['attack']['train']['epsilon']:g}-eval{config['attack']['eval']['epsilon']:g}"
    return f"{config['objective']['name']}-{budgets}-seed{config['seed']}-{fingerprint(config, 'cell')}"


def facts_of(folder: Path) -> dict[str, Any]:
    """What a finished cell says of itself in `versions.json`; empty if it says nothing."""
    file = folder / "versions.json"
    found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return found


def digest(file: str | Path) -> str:
    """SHA-256 of a file; "" if there is none."""
    path = Path(file).expanduser()
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def write_json(path: Path, content: Any) -> None:
    """Write a value whole."""
    with atomic_write(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n")
