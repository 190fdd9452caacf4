"""The groups of keys in the config, and the class that declares the keys of each group."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

ROOT_MODULE = "aloe_lightning.config.root"
ROOT = f"{ROOT_MODULE}.Root"
SECTIONS = {
    **{name.lower(): f"{ROOT_MODULE}.{name}" for name in ("Attack", "Trainer", "Launcher", "Paths", "Duplicates")},
    "batch": "aloe_lightning.data.BatchSizes",
    "evaluation": "aloe_lightning.evaluation.evaluate.EvaluationSettings",
    "validation": "aloe_lightning.training.validation.ValidationSettings",
}
"""Sections of plain keys, each with the class that declares them; `logger` depends on its kind."""
COLLECTIONS = ("ood", "detector")
"""Sections that hold any number of nodes by name."""
SUPPLIED = {
    "net": ("num_classes", "mean", "std"),
    "objective": ("net", "optim", "attack", "inner_batchnorm"),
}
"""Parameters that the builder supplies, so that the config does not state them."""
FROM_PATHS = ("root", "verify")
"""Parameters that the builder takes from `paths`, unless the config states them."""
LABEL_REQUIRED = ("net", "objective", "data")
"""Nodes whose `name` is a label that the records need, not an argument of the class."""
LABELLED = (*LABEL_REQUIRED, "outliers")
"""Nodes whose `name` is a label for records and folders."""
RENAMED = {
    "wanted": "enabled",
    "setting": "protocol",
    "redo": "recompute",
    "resume": "recompute",
    "data.root": "paths.data",
    "data.verify": "paths.verify",
    "net.streamed": "net.fused",
    "objective.joint_passes": "objective.joint_forward",
    "attack.train.batchnorm": "attack.inner_batchnorm",
    "attack.eval.name": "attack.name",
}
"""Keys of earlier versions."""


@dataclass(frozen=True)
class Place:
    """A group of keys in the config."""

    path: str  # such as `attack.eval`; "" for the root
    keys: Any
    target: str | None  # path of the class that declares the keys; None if the group names none

    @property
    def labelled(self) -> bool:
        """True if the group has a label for records."""
        return self.path in LABELLED


def places(content: Mapping[str, Any]) -> Iterator[Place]:
    """Yield every group of keys of a config, the root first."""
    yield Place("", content, ROOT)
    for key, value in content.items():
        if key == "logger":
            kind = value.get("kind") if isinstance(value, Mapping) else None
            yield Place(key, value, f"{ROOT_MODULE}.{'WandbLogger' if kind == 'wandb' else 'Logger'}")
        elif key in SECTIONS:
            yield Place(key, value, SECTIONS[key])
            if key == "attack" and isinstance(value, Mapping):
                yield from (_node(f"attack.{side}", value[side]) for side in ("train", "eval") if side in value)
        elif key in COLLECTIONS and isinstance(value, Mapping):
            yield from (_node(f"{key}.{name}", node) for name, node in value.items())
        elif key in ("data", "outliers", "net", "objective", "optim"):
            yield _node(key, value)


def _node(path: str, node: Any) -> Place:
    target = node.get("_target_") if isinstance(node, Mapping) else None
    return Place(path, node, target if isinstance(target, str) else None)
