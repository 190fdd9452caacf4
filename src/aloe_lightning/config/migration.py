"""Migration of results stored by version 0.1 to current names and formats, so that nothing is trained again."""

import json
import logging
import shutil
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from aloe_lightning.errors import UserError
from aloe_lightning.storage.cells import cell_name
from aloe_lightning.storage.files import atomic_write, file_lock, read_json, write_json
from aloe_lightning.storage.fingerprints import fingerprint_of, fit_fingerprint
from aloe_lightning.storage.models import FOLDER, TrainedModel

log = logging.getLogger(__name__)
STATISTICS = ("num_classes", "mean", "std")
"""Keys that the net now takes from the data."""
MARKER = ".format-2"
"""File in the folder of the nets; it exists once no result of version 0.1 is left."""
SETS = {"Textures": "textures", "Places365": "places365", "LSUNCrop": "lsun_c", "LSUNResize": "lsun_r", "ISUN": "isun"}
"""Classes of OOD sets in version 0.1, and the data sets that `PictureSet` now reads in their place."""


def migrate(outputs: Path) -> None:
    """Rename the nets and cells of version 0.1 in a folder of outputs to their current names.

    The fits of detectors are not moved: they are computed again from the same nets.
    """
    models = outputs / FOLDER
    if (models / MARKER).is_file():
        return
    models.mkdir(parents=True, exist_ok=True)
    with file_lock(models / ".migration.lock", f"migrating the results in {outputs}"):
        if (models / MARKER).is_file():
            return
        nets = sorted(path for path in models.iterdir() if path.is_dir())
        cells = sorted(file.parent for file in outputs.glob("*/*/versions.json"))
        for migrate_one, folder in (*((_migrate_model, net) for net in nets), *((_migrate_cell, c) for c in cells)):
            try:
                migrate_one(folder, outputs)
            except (UserError, OSError):
                raise
            except Exception as error:  # damaged facts raise nearly anything
                log.warning("%s is damaged (%s: %s) and left as it is", folder, type(error).__name__, error)
        (models / MARKER).touch()


def translated(old: Mapping[str, Any], outputs: Path | None = None) -> dict[str, Any]:
    """Translate a validated config of version 0.1 to the current keys; `outputs` replaces its folder of results."""
    new = deepcopy(dict(old))
    if outputs is not None:
        new["paths"]["outputs"] = str(outputs)
    new["enabled"], new["recompute"] = new.pop("wanted"), new.pop("redo")
    del new["setting"]
    data = new["data"]
    new["paths"]["verify"] = data.pop("verify", True)
    new["paths"]["data"] = data.pop("root", new["paths"]["data"])
    if _is_custom(data):
        # Classes and normalisation are determined from the images again; "own" of version 0.1 is now "custom".
        data |= dict.fromkeys(STATISTICS)
        for part, key in ((data, "name"), (new, "study"), (new, "group")):
            part[key] = "custom" if part[key] == "own" else part[key]
    elif data["_target_"].endswith(".CIFAR"):
        data["_target_"] += str(data["num_classes"])
    if not _is_custom(data):
        new["data"] = _without(data, *STATISTICS)
    new["ood"] = {name: _ood_set(node) for name, node in new["ood"].items()}
    new["outliers"] = _without(new["outliers"], "root", "verify")
    new["net"] = _renamed(_without(new["net"], *STATISTICS), "streamed", "fused")
    new["objective"] = _renamed(new["objective"], "joint_passes", "joint_forward")
    new["detector"] = {name: _without(node, "name") for name, node in new["detector"].items()}
    new["attack"] = _attack(new["attack"])
    new["protocol"] = fingerprint_of(new, "table")
    new["cell"] = cell_name(new)
    return new


def _is_custom(data: Mapping[str, Any]) -> bool:
    return str(data["_target_"]).endswith(("LabelledFolder", "LabelledArrays"))


def _without(node: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in node.items() if key not in keys}


def _renamed(node: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
    return {(new if key == old else key): value for key, value in node.items()}


def _ood_set(node: dict[str, Any]) -> dict[str, Any]:
    room, _, name = node["_target_"].rpartition(".")
    node = _without(node, "root", "verify")
    if name == "CIFAROOD":
        return {"_target_": f"{room}.CIFAR{node['num_classes']}Test"}
    return {**node, "_target_": f"{room}.PictureSet", "dataset": SETS[name]} if name in SETS else node


def _attack(old: Mapping[str, Any]) -> dict[str, Any]:
    train, evaluation = ({**old[side], "_target_": "aloe_lightning.attacks.PGD"} for side in ("train", "eval"))
    shared = {"name": evaluation.pop("name", "paper"), "inner_batchnorm": train.pop("batchnorm", "eval")}
    return {**shared, "train": train, "eval": evaluation}


def _migrate_model(folder: Path, outputs: Path) -> None:
    file = folder / "model.json"
    if not file.is_file():
        if (folder / "last.ckpt").is_file():
            log.warning("an unfinished training, if it is of an earlier version, is not continued: %s", folder)
        return
    metadata = read_json(file)
    old = metadata.get("config", {})
    if "redo" not in old:
        return
    config = translated(old, outputs)
    model = TrainedModel.of(config)
    if model.folder.exists():
        return
    # Whether custom statistics were given or computed is not known: reuse compares them with those of the data.
    statistics = [old["data"]["mean"], old["data"]["std"]] if _is_custom(old["data"]) else None
    write_json(file, {**metadata, "config": config, "earlier_name": folder.name, "normalisation": statistics})
    folder.rename(model.folder)
    log.info("trained net of an earlier version, now called %s: %s", model.folder.name, folder.name)


def _migrate_cell(folder: Path, outputs: Path) -> None:
    file = folder / "config.json"
    old = read_json(file)
    if "redo" not in old or not (folder / "records.jsonl").is_file() or _is_custom(old["data"]):
        return  # a cell of custom images is evaluated again, after its net's normalisation was compared
    config = translated(old, outputs)
    place = outputs / config["study"] / config["cell"]
    if (place / "records.jsonl").exists():
        return
    facts = read_json(folder / "versions.json")
    model = TrainedModel.of(config).folder.absolute()
    write_json(folder / "versions.json", {**facts, "cell": config["cell"], "model": facts["model"] and str(model)})
    _rewrite_scores(folder / "scores.npz")
    _rewrite_records(folder / "records.jsonl", config)
    write_json(file, config)
    place.mkdir(parents=True, exist_ok=True)  # it may exist: Hydra creates the folder of the job that migrates
    for path in folder.iterdir():
        if not (place / path.name).exists():
            path.rename(place / path.name)
    shutil.rmtree(folder)
    log.info("cell of an earlier version, now called %s: %s", place.name, folder)


def _rewrite_scores(file: Path) -> None:
    if not file.is_file():
        return
    with np.load(file, allow_pickle=False) as arrays:
        scores = {key.replace("/misled", "/misclassified"): arrays[key] for key in arrays.files}
    with atomic_write(file) as part, part.open("wb") as stream:
        np.savez_compressed(stream, **scores)


def _rewrite_records(file: Path, config: dict[str, Any]) -> None:
    from aloe_lightning.config.build import build_attack, build_detectors
    from aloe_lightning.evaluation.records import Record, write_records

    detectors = build_detectors(config)
    settings = {name: fit_fingerprint(config, name, detector.requires_outliers) for name, detector in detectors.items()}
    shared = {
        "objective_title": config["objective"]["_target_"].rpartition(".")[2],
        "attack": build_attack(config).describe(),
        "protocol": config["protocol"],
        "dataset": config["data"]["name"],
    }
    known = {field.name for field in fields(Record)}
    records = []
    for line in file.read_text().splitlines():
        old = json.loads(line)
        name = old["detector"]
        titles = {"detector_title": detectors[name].title if name else "", "detector_settings": settings.get(name, "")}
        kept = {key: value for key, value in old.items() if key in known}
        records.append(Record(**{**kept, **shared, **titles}))
    write_records(file, records)
