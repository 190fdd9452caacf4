"""What a training, a cell and a table are: fingerprints of all that decides, so that nothing is computed twice."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from omegaconf import DictConfig, OmegaConf

Subject = Literal["training", "cell", "table"]

ASIDE = frozenset(
    {
        "epsilon",
        "train_epsilon",
        "eval_epsilon",
        "seed",
        "paths",
        "study",
        "group",
        "protocol",
        "cell",
        "enabled",
        "logger",
    }
    | {"launcher", "compile", "recompute", "checkpoint_seconds", "debug", "hydra"}
)
"""Keys that change no result, or that names state in words."""
WITHOUT_EFFECT = frozenset({"log_every_n_steps", "accelerator", "fused"})
OF_THE_TEST = frozenset({"evaluate", "max_test"})
"""Keys of the data that choose test images; no outlier that is among any of them is trained on in either case."""
LEARNS_FROM = {
    "Original": (False, False),
    "OE": (True, False),
    "ADV": (False, True),
    "AOE": (True, True),
    "ALOE": (True, True),
}
"""Whether an objective sees outliers, and whether it perturbs anything; `tests/test_identity.py` asks the classes."""


def fingerprint(config: DictConfig | Mapping[str, Any], of: Subject = "table") -> str:
    """Eight hex digits of everything that decides what something is.

    `training`: the weights. Objectives without outliers know nothing of them, those that perturb nothing nothing of the
    attack. The OOD sets count where there are outliers, because outliers that are also there are not trained on.
    `table`: what must agree for two cells to stand in one table: everything but which objective (or which weights), the
    detectors, the budgets and the seed.
    `cell`: the same with objective, weights and detectors.

    Data that are held to the published sums are the same wherever they lie; a copy that is not (`verify: false`) is
    told by its place, too.

    Args:
        config: composed, resolvable; or plain values.
        of: what is to be told from others.
    """
    kept = _kept(config)
    root = str((kept.get("data") or {}).get("root") or "")
    objective, attacks = kept.get("objective") or {}, kept.get("attack") or {}
    kept["evaluation"] = _without({"batch_size"}, kept.get("evaluation"))
    if not kept.get("tf32"):
        kept.pop("tf32", None)
    kept["trainer"] = _with_count_of_devices(kept.get("trainer"))
    if of == "training":
        kept = _of_training(kept, *learns_from(objective))
    else:
        kept["attack"] = {part: _without({"epsilon"}, attack) for part, attack in attacks.items()}
    if of == "table":
        kept["objective"] = _without({"name", "_target_"}, objective)
        kept = {key: value for key, value in kept.items() if key not in ("detector", "checkpoint")}
    return hashlib.sha256(json.dumps(_portable(root, kept), sort_keys=True, default=str).encode()).hexdigest()[:8]


def _of_training(kept: dict[str, Any], outliers: bool, perturbs: bool) -> dict[str, Any]:
    """What of the settings decides the weights."""
    names = ["data", "net", "objective", "optim", "trainer", "batch", "checkpoint"]
    found = {key: kept.get(key) for key in names + (["outliers", "ood", "duplicates"] if outliers else [])}
    if "tf32" in kept:
        found["tf32"] = True
    found["data"] = _without(OF_THE_TEST, found["data"])
    if perturbs:
        found["attack"] = _without({"epsilon"}, (kept.get("attack") or {}).get("train"))
    if not outliers:
        found["data"] = _without({"augment_outliers", "test"}, found["data"])
        found["batch"] = _without({"outliers"}, found["batch"])
        found["objective"] = _without({"outlier_weight", "joint_forward"}, found["objective"])
    return found


def _with_count_of_devices(trainer: Any) -> Any:
    """Which devices they are does not matter, how many do: the batch is a process's."""
    devices = trainer.get("devices") if isinstance(trainer, dict) else None
    return {**trainer, "devices": len(devices)} if isinstance(devices, list) else trainer


def learns_from(objective: Mapping[str, Any]) -> tuple[bool, bool]:
    """Whether an objective of the config sees outliers, and whether it perturbs images; somebody's own may do both."""
    target = str(objective.get("_target_", ""))
    return LEARNS_FROM.get(target.removeprefix("aloe_lightning.objectives."), (True, True))


def model_name(config: Mapping[str, Any]) -> str:
    """Of the folder of a trained net: what it is in words, then its fingerprint."""
    budget = f"-train{config['attack']['train']['epsilon']:g}" if learns_from(config["objective"])[1] else ""
    words = f"{config['data']['name']}-{config['objective']['name']}{budget}-seed{config['seed']}"
    return f"{words}-{fingerprint(config, 'training')}"


def _kept(config: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """What of a config can change a result, as plain values."""
    if not isinstance(config, DictConfig):
        return {str(key): value for key, value in config.items() if key not in ASIDE}
    kept: dict[str, Any] = {}
    for key in config:
        if key not in ASIDE:
            node = OmegaConf.select(config, str(key))
            kept[str(key)] = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    return kept


def _without(names: Iterable[str], node: Any) -> Any:
    return {key: value for key, value in node.items() if key not in names} if isinstance(node, dict) else node


def _portable(root: str, node: Any) -> Any:
    """The node without what changes no result; paths of verified data told from their root, wherever that lies."""
    if isinstance(node, dict):
        aside = WITHOUT_EFFECT | (frozenset({"root", "verify"}) if node.get("verify", True) else frozenset())
        vouched = root if node.get("verify", True) else ""
        return {key: _portable(vouched, value) for key, value in node.items() if key not in aside}
    return node.removeprefix(root) if isinstance(node, str) and root else node
