"""Is the composed config right? Checked first thing, all problems at once, each with the nearest valid name."""

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from aloe_lightning.config.schema_init import TARGETS, Config
from aloe_lightning.errors import UserError
from aloe_lightning.paper.settings import PUBLISHED_EPSILONS, PUBLISHED_ETA
from aloe_lightning.storage.fingerprints import fingerprint


def validated(cfg: DictConfig) -> dict[str, Any]:
    """The config as plain, resolved, checked values.

    Raises:
        UserError: naming every unknown key, missing value, wrong type and value out of range.
    """
    try:
        plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = f" ({error.full_key})" if error.full_key else ""
        raise UserError(f"config: {str(error).splitlines()[0]}{key}") from error
    assert isinstance(plain, dict)
    content: dict[str, Any] = {str(key): value for key, value in plain.items()}
    if isinstance(content.get("ood"), dict):
        content["ood"] = {name: _folder_if_path(node) for name, node in content["ood"].items()}
    try:
        # The values as pydantic understood them: "no" has become False, 8.0 a whole number.
        content = Config.model_validate(content).model_dump(by_alias=True, exclude_unset=True)
    except ValidationError as error:
        raise UserError("config: " + "; ".join(_problem(e) for e in _not_inherited(error.errors()))) from error
    problems = list(_contradictions(content))
    if problems:
        raise UserError("config: " + "; ".join(problems))
    return content


def _not_inherited(errors: Sequence[Any]) -> list[Any]:
    """Without the errors of keys that only pass on a bad `epsilon`."""
    bad = [e["input"] for e in errors if e["loc"] == ("epsilon",)]

    def inherited(error: Any) -> bool:
        place = error["loc"]
        return place != ("epsilon",) and str(place[-1]).endswith("epsilon") and error["input"] in bad

    return [error for error in errors if not inherited(error)]


def _folder_if_path(node: Any) -> Any:
    """`ood.mine=/path/to/images` is short for an image folder there, or for an `.npy` of images."""
    if not isinstance(node, str):
        return node
    kind = "NpyImages" if node.endswith(".npy") else "ImageFolder"
    return {"_target_": f"aloe_lightning.data.{kind}", "path": node}


def _problem(error: Any) -> str:
    # A union's tag stands in the location beside the key; a user knows the key only.
    place = [str(part) for part in error["loc"] if not str(part).startswith(("aloe_lightning.", "foreign"))]
    key = ".".join(part for part in place if part not in ("LoggerNode", "WandbNode"))
    if error["type"] == "extra_forbidden":
        return f"{key} is unknown{nearest(place[-1], known_keys())}"
    if error["type"].startswith("union_tag"):
        node = error["input"]
        if not isinstance(node, dict):
            return f"{key}: must be a group of keys with a _target_ (got {node!r})"
        found = str(node.get("_target_") or node.get("kind"))
        known = [f"aloe_lightning.{path.replace('__', '.')}" for path in TARGETS]
        return f"{key}: nothing called {found!r}{nearest(found, known)}"
    if key == "ood" and error["type"] in ("missing", "too_short"):
        return "no OOD test set is given: 'ood=[textures]' names one, +ood.NAME=/path/to/images is one of your own"
    if error["type"] == "missing":
        return f"{key} is missing"
    fraction = place[-1].endswith("epsilon") and isinstance(error["input"], str)
    hint = ": it counts 1/255 pixel steps, write 8 for 8/255" if fraction else ""
    return f"{key}: {error['msg'][0].lower()}{error['msg'][1:]} (got {error['input']!r}){hint}"


def nearest(name: str, known: list[str]) -> str:
    """A question after the nearest of the known names, for the end of a message; nothing if none is near."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f", did you mean {close[0]!r}?" if close else ""


def known_keys() -> list[str]:
    """Every key that some part of the config has."""
    models = [Config, *TARGETS.values(), *(field.annotation for field in Config.model_fields.values())]
    names = {"experiment", "sweep"}
    return sorted(names | {name for model in models for name in getattr(model, "model_fields", {})})


def _contradictions(content: dict[str, Any]) -> Iterator[str]:
    """What each key alone allows and the whole does not."""
    for part in ("data", "net", "objective"):
        if not content[part].get("name"):
            yield f"{part}.name is missing: records state it"
    classes, outputs = content["data"].get("num_classes"), content["net"].get("num_classes")
    if None not in (classes, outputs) and classes != outputs:
        yield f"net.num_classes is {outputs}, but data={content['data'].get('name')} has {classes} classes"
    trainer = content["trainer"]
    if trainer["max_steps"] < 0 and trainer["max_epochs"] < 0 and content["checkpoint"] is None:
        yield "training has no end: set trainer.max_epochs or trainer.max_steps"
    for part in ("train", "eval"):
        attack = content["attack"][part]
        whole = float(attack.get("epsilon", 0)).is_integer() and float(attack.get("step_size", 1)).is_integer()
        if attack.get("rounding", "none") != "none" and not whole:
            yield f"attack.{part}.rounding={attack['rounding']} wants epsilon and step_size as whole 1/255 steps"
    demo = {
        "data": _is_demo(content["data"]),
        "outliers": _is_demo(content["outliers"]),
        **{f"ood.{name}": _is_demo(node) for name, node in content["ood"].items()},
    }
    if demo["data"] and not all(demo.values()):
        yield f"data=demo stands beside {next(k for k, v in demo.items() if not v)}: use +experiment=cifar10"
    if not demo["data"] and any(demo.values()):
        name = content["data"].get("name")
        yield (
            f"data={name} stands beside the demo's {next(k for k, v in demo.items() if v)}: "
            f"use +experiment={name}, or choose outliers= and ood= too"
        )


def _is_demo(node: dict[str, Any]) -> bool:
    return str(node.get("_target_", "")).startswith("aloe_lightning.data.Demo")


def register_resolvers() -> None:
    """What the YAML files may ask for: `${fingerprint:table}`, `${published_eta:DATA}`, `${published:DATA,EPSILON}`."""
    OmegaConf.register_new_resolver("fingerprint", lambda of, *, _root_: fingerprint(_root_, of), replace=True)
    OmegaConf.register_new_resolver("published_eta", lambda name: PUBLISHED_ETA.get(name, 0.0014), replace=True)
    OmegaConf.register_new_resolver(
        "published", lambda name, epsilon: epsilon in PUBLISHED_EPSILONS.get(name, (epsilon,)), replace=True
    )
