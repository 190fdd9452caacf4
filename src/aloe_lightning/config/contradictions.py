"""Contradictions: what each key alone allows and the whole config does not."""

from collections.abc import Iterator, Mapping
from typing import Any


def contradictions(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield the contradictions of a config whose keys are valid each."""
    trainer = content["trainer"]
    if trainer["max_steps"] < 0 and trainer["max_epochs"] < 0 and content["checkpoint"] is None:
        yield "training has no end: set trainer.max_epochs or trainer.max_steps"
    for part in ("train", "eval"):
        attack = content["attack"][part]
        whole = float(attack.get("epsilon", 0)).is_integer() and float(attack.get("step_size", 1)).is_integer()
        if attack.get("rounding", "none") != "none" and not whole:
            yield f"attack.{part}.rounding={attack['rounding']} requires epsilon and step_size in whole 1/255 steps"
    demo = {
        "data": _is_demo(content["data"]),
        "outliers": _is_demo(content["outliers"]),
        **{f"ood.{name}": _is_demo(node) for name, node in content["ood"].items()},
    }
    if demo["data"] and False in demo.values():
        yield f"data=demo is combined with {next(k for k, v in demo.items() if v is False)}: use +experiment=cifar10"
    if demo["data"] is False and any(demo.values()):
        name = content["data"]["name"]
        yield (
            f"data={name} is combined with the demo's {next(k for k, v in demo.items() if v)}: "
            f"use +experiment={name}, or choose outliers= and ood= too"
        )


def _is_demo(node: Mapping[str, Any]) -> bool | None:
    """Return whether a set is of the embedded demo; None for a class from outside, which goes with any data."""
    target = str(node.get("_target_", ""))
    return target.startswith("aloe_lightning.data.Demo") if target.startswith("aloe_lightning.") else None
