"""Fingerprints: hashes of the settings that decide a training, a cell or a table, for reusing stored results.

A fingerprint covers the settings that affect the result. An object contributes its class and its non-default
arguments, so that a new parameter with a default leaves old fingerprints valid.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

from aloe_lightning.signatures.description import describe
from aloe_lightning.storage.zoo import checkpoint_file

Subject = Literal["training", "cell", "table"]

TRAINER_KEYS = (
    *("num_nodes", "strategy", "precision", "max_epochs", "max_steps", "gradient_clip_val", "accumulate_grad_batches"),
    *("sync_batchnorm", "deterministic", "benchmark", "limit_train_batches", "fast_dev_run"),
)
"""Trainer arguments that affect the weights, besides the number of devices."""
SECTION_CLASSES = {
    "batch": "aloe_lightning.data.BatchSizes",
    "evaluation": "aloe_lightning.evaluation.evaluate.EvaluationSettings",
    "duplicates": "aloe_lightning.config.root.Duplicates",
    "trainer": "aloe_lightning.config.root.Trainer",
}
"""Sections of plain keys, each with the class that declares their defaults."""
TABLE_KEYS = (
    "data",
    "net",
    "optim",
    "trainer",
    "batch",
    "outliers",
    "ood",
    "duplicates",
    "attack",
    "evaluation",
    "tf32",
)
"""Parts of the config that must be equal within a table.

The class of the objective (not its arguments), the detectors and the weights may differ. Budgets and seed enter no
fingerprint.
"""


def fingerprint_of(config: DictConfig | Mapping[str, Any], subject: Subject) -> str:
    """Return an 8-digit hexadecimal hash of the settings that determine the subject; "invalid" for an invalid config.

    `training`: the settings that affect the weights. Outlier settings are included only if the objective uses outliers,
    the attack only if it perturbs images, OOD sets only with outliers (because outliers that are also test images are
    excluded).
    `table`: the settings that must be equal for two cells to share a table.
    `cell`: the settings of the table, the objective, the detectors and the weights to evaluate.

    Args:
        config: a composed config that can be resolved, or plain values.
        subject: what the fingerprint identifies.
    """
    try:
        reduced = _ResultSettings(config)
        if subject == "training":
            return _digest(reduced.training())
        shared = {key: reduced.relevant(key) for key in TABLE_KEYS}
        if subject == "table":
            # A step of 1.25 epsilon is one setting at all budgets.
            shared["attack"]["train"] |= reduced.expressions("attack.train")
            objective = reduced.settings(reduced.value("objective"), table=True)
            return _digest({**shared, "objective": objective | {"class": ""}})
        return _digest({**shared, **{key: reduced.relevant(key) for key in ("objective", "detector", "checkpoint")}})
    except (LookupError, TypeError, AttributeError, ValueError):
        return "invalid"


def fit_fingerprint(config: Mapping[str, Any], detector: str, requires_outliers: bool) -> str:
    """Return the fingerprint of a detector's fit on a net: its settings and the images that it may be fitted on."""
    reduced = _ResultSettings(config)
    keys = ("data", "outliers", "ood", "duplicates") if requires_outliers else ("data",)
    settings = reduced.settings(config["detector"][detector])
    return _digest({"detector": settings, **{key: reduced.relevant(key) for key in keys}})


def uses(objective: Mapping[str, Any]) -> tuple[bool, bool]:
    """Return whether an objective of the config uses outliers and whether it perturbs images, as its class states."""
    constants = describe(str(objective["_target_"])).constants
    perturbs = constants.get("perturbs_inliers", True) or constants.get("perturbs_outliers", True)
    return bool(constants.get("uses_outliers", True)), bool(perturbs)


def model_name(config: Mapping[str, Any]) -> str:
    """Return the name of a trained net's folder: a readable description, then its fingerprint."""
    budget = f"-train{config['attack']['train']['epsilon']:g}" if uses(config["objective"])[1] else ""
    description = f"{config['data']['name']}-{config['objective']['name']}{budget}-seed{config['seed']}"
    return f"{description}-{fingerprint_of(config, 'training')}"


def image_node(node: Any) -> Any:
    """Expand a path given in place of a config node to an image-folder or `.npy` node."""
    if not isinstance(node, str):
        return node
    kind = "NpyImages" if node.endswith(".npy") else "ImageFolder"
    return {"_target_": f"aloe_lightning.data.{kind}", "path": node}


class _ResultSettings:
    """The parts of a config, reduced to the settings that affect results."""

    def __init__(self, config: DictConfig | Mapping[str, Any]) -> None:
        self.config = config
        paths = self.value("paths") or {}
        self.verified = bool(paths.get("verify", True))
        self.root = str(paths.get("data") or "")

    def value(self, key: str) -> Any:
        """Return a part of the config as plain values."""
        if not isinstance(self.config, DictConfig):
            return self.config.get(key)
        node = OmegaConf.select(self.config, key)
        return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node

    def relevant(self, key: str) -> Any:
        """Return the settings of a section that affect results."""
        value = self.value(key)
        if key in ("ood", "detector"):
            return {name: self.settings(image_node(node)) for name, node in value.items()}
        if key == "attack":
            attacks = {side: self.settings(value[side], "epsilon") for side in ("train", "eval")}
            return {**attacks, "name": value["name"], "inner_batchnorm": value["inner_batchnorm"]}
        if key == "trainer":
            arguments = {name: setting for name, setting in value.items() if name in TRAINER_KEYS}
            devices = value.get("devices", 1)  # only the number of devices matters
            count = len(devices) if isinstance(devices, list) else devices
            # Up to version 0.1 several processes took a batch each; now they share one.
            shared = {"batch": "shared"} if count != 1 or value.get("num_nodes", 1) != 1 else {}
            return {**self.settings({"_target_": SECTION_CLASSES[key], **arguments}), "devices": count, **shared}
        if key in SECTION_CLASSES:
            return self.settings({"_target_": SECTION_CLASSES[key], **value})
        if key in ("data", "outliers", "net"):
            return self.named_settings(value)
        return self.settings(value) if isinstance(value, dict) else value

    def expressions(self, place: str) -> dict[str, str]:
        """Return the keys of a node, epsilon apart, that the config computes from others, as they are written there."""
        if not isinstance(self.config, DictConfig):
            return {}
        node: Any = OmegaConf.to_container(OmegaConf.select(self.config, place), resolve=False)
        return {key: v for key, v in node.items() if key != "epsilon" and isinstance(v, str) and "${" in v}

    def named_settings(self, node: Mapping[str, Any], *ignored_keys: str, training: bool = False) -> dict[str, Any]:
        """Return the settings of a named node that affect results, and the data root if files are not verified."""
        unverified = {} if self.verified else {"unverified": self.root}
        return {"name": node.get("name"), **self.settings(node, *ignored_keys, training=training), **unverified}

    def settings(
        self, node: Mapping[str, Any], *ignored_keys: str, training: bool = False, table: bool = False
    ) -> dict[str, Any]:
        """Return the class of a node, its version if it has one, and its non-default arguments that affect results."""
        description = describe(str(node["_target_"]))
        ignored = {"nothing": True, "test images": training, "location": self.verified, "one net": table}
        ignored_effects = {effect for effect, is_ignored in ignored.items() if is_ignored}
        relevant: dict[str, Any] = {"class": description.identity}
        if "version" in description.constants:
            relevant["version"] = description.constants["version"]
        for name, value in node.items():
            parameter = description.parameters.get(name)
            if name in ("_target_", "name", *ignored_keys) or (parameter and parameter.effect in ignored_effects):
                continue
            if parameter is None or _plain(parameter.default) != _plain(value):
                weights = parameter is not None and parameter.effect == "one net"
                relevant[name] = _content_of(str(value)) if weights else self._portable(value)
        return relevant

    def training(self) -> dict[str, Any]:
        """Return the settings that affect the weights."""
        objective = self.value("objective")
        outliers, perturbs = uses(objective)
        relevant: dict[str, Any] = {
            key: self.relevant(key) for key in ("net", "optim", "trainer", "checkpoint", "tf32", "batch")
        }
        if outliers:
            relevant |= {key: self.relevant(key) for key in ("outliers", "ood", "duplicates")}
            relevant["data"] = self.named_settings(self.value("data"), training=True)
            relevant["objective"] = self.settings(objective)
        else:
            relevant["batch"].pop("outliers", None)
            relevant["data"] = self.named_settings(self.value("data"), "augment_outliers", "test", training=True)
            relevant["objective"] = self.settings(objective, "outlier_weight", "joint_forward")
        if perturbs:
            attack = self.relevant("attack")
            relevant["attack"] = {key: attack[key] for key in ("train", "inner_batchnorm")}
        return relevant

    def _portable(self, value: Any) -> Any:
        """Make paths of verified files relative to the data root."""
        is_portable = isinstance(value, str) and self.root and self.verified
        return value.removeprefix(self.root) if is_portable else _plain(value)


def _content_of(weights: str) -> str:
    """Return the SHA-256 of a file of weights, wherever it is; its name if there is none."""
    file = checkpoint_file(weights)
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else weights


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:8]
