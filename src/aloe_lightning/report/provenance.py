"""Where numbers come from: how long a net was trained on how many images, on what machine, with which packages."""

import json
from pathlib import Path
from typing import Any

from aloe_lightning.paper.methods import DATASET_TITLES, OBJECTIVE_TITLES


def training_of(folder: Path) -> list[str]:
    """A line about the training behind a run, if the run tells."""
    config, sizes = _read(folder / "config.json"), _read(folder / "data.json")
    if not config or not sizes.get("train"):
        return []
    trainer, batch = config["trainer"], config["batch"]
    length = f"{trainer['max_steps']} steps" if trainer["max_steps"] > 0 else f"{trainer['max_epochs']} epochs"
    name, objective = config["data"]["name"], config["objective"]["name"]
    images, beside = f"{sizes['train']} images", ""
    if sizes.get("outliers"):
        images, beside = f"{images} and {sizes['outliers']} outliers", f" + {batch['outliers']}"
    title = f"{DATASET_TITLES.get(name, name)}, {OBJECTIVE_TITLES.get(objective, objective)}"
    return [f"{title}: {images}, {length} of {batch['inliers']}{beside}"]


def machine_of(folder: Path) -> list[str]:
    """A line about what a run ran on, if the run tells."""
    facts = _read(folder / "versions.json")
    if not facts:
        return []
    packages = ", ".join(f"{name} {version}" for name, version in facts.get("packages", {}).items())
    return [f"{facts.get('platform')}, {facts.get('device')}, Python {facts.get('python')}: {packages}"]


def _read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return found
