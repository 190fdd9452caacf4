"""Finished cells: check whether the results of a config exist."""

import hashlib
from pathlib import Path
from typing import Any

from aloe_lightning.storage.files import read_json
from aloe_lightning.storage.fingerprints import fingerprint_of
from aloe_lightning.storage.models import TrainedModel
from aloe_lightning.storage.zoo import checkpoint_file

FAILED = "failed.log"
"""File in the folder of a failed cell of a sweep, with the traceback."""


def is_done(config: dict[str, Any], folder: Path) -> bool:
    """Return whether the folder of a cell has results, and whether they are those of the config."""
    facts = facts_of(folder)
    if not (folder / "records.jsonl").is_file() or facts.get("cell") != cell_name(config):
        return False
    weights = file_digest(config["checkpoint"] or TrainedModel.of(config).weights)
    if weights != facts.get("weights") and (weights or config["checkpoint"]):  # a net may be deleted, not replaced
        return False
    return facts.get("files") == custom_data_fingerprint(config)


def computed_since(folder: Path, moment: float) -> bool:
    """Return whether the results of a cell were written after a moment, in seconds since the epoch."""
    records = folder / "records.jsonl"
    return records.is_file() and records.stat().st_mtime >= moment


def cell_name(config: dict[str, Any]) -> str:
    """Return a readable description of a cell and its fingerprint, independent of the name of its folder."""
    budgets = f"train{config['attack']['train']['epsilon']:g}-eval{config['attack']['eval']['epsilon']:g}"
    return f"{config['objective']['name']}-{budgets}-seed{config['seed']}-{fingerprint_of(config, 'cell')}"


def facts_of(folder: Path) -> dict[str, Any]:
    """Return the content of `versions.json` of a finished cell; empty if there is none."""
    return read_json(folder / "versions.json")


def file_digest(file: str | Path) -> str:
    """Return the SHA-256 of a file or of a net of the zoo, `zoo:NAME`; "" if there is none."""
    path = checkpoint_file(file)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def custom_data_fingerprint(config: dict[str, Any]) -> str:
    """Return a hash of names, sizes and modification times of all custom images; "" if there are none."""
    nodes = (config["data"], config["outliers"], *config["ood"].values())
    paths = {node[key] for node in nodes for key in ("path", "train", "test") if isinstance(node.get(key), str)}
    status = []
    for path in sorted(Path(path).expanduser().absolute() for path in paths):
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        status += [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
    return hashlib.sha256(repr(status).encode()).hexdigest()[:16] if status else ""
