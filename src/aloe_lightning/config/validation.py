"""Validate the composed config before anything is built, and report all problems at once with suggestions."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from aloe_lightning.config import layout
from aloe_lightning.config.layout import ROOT, Place, places
from aloe_lightning.errors import UserError, did_you_mean
from aloe_lightning.signatures.checked import converted, is_plain, model_of, reason
from aloe_lightning.signatures.description import REQUIRED, Description, describe, targets_like
from aloe_lightning.signatures.types import unit_mistake
from aloe_lightning.storage.fingerprints import image_node
from aloe_lightning.storage.zoo import checkpoint_file, zoo_card, zoo_name

if TYPE_CHECKING:
    from pydantic import BaseModel

NO_OOD = "no OOD test set is given: 'ood=[textures]' names one, +ood.NAME=/path/to/images is a custom one"


def validated(cfg: DictConfig) -> dict[str, Any]:
    """Return the config as plain, resolved values, each group of keys checked against the signature of its class.

    Raises:
        UserError: listing every unknown key, missing value, wrong type and value out of range.
    """
    try:
        plain = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = f" ({error.full_key})" if error.full_key else ""
        raise UserError(f"config: {str(error).splitlines()[0]}{key}") from error
    assert isinstance(plain, dict)
    content: dict[str, Any] = {str(key): value for key, value in plain.items()}
    if isinstance(content.get("ood"), dict):
        content["ood"] = {name: image_node(node) for name, node in content["ood"].items()}
    problems = [problem for place in list(places(content)) for problem in _check_and_convert(place)]
    problems = list(_without_inherited(content.get("epsilon"), problems)) or list(_contradictions(content))
    if problems:
        raise UserError("config: " + "; ".join(problems))
    return content


def _check_and_convert(place: Place) -> Iterator[str]:
    """Check a group of keys, convert its values to their declared types in place, and yield the problems."""
    if not isinstance(place.keys, dict) or place.target is None:
        yield f"{place.path}: must be a group of keys with a _target_ (got {place.keys!r})"
        return
    try:
        description = describe(place.target)
    except LookupError as error:
        yield f"{place.path}: {error.args[0]}{did_you_mean(place.target, targets_like(place.target))}"
        return
    reserved = {"_target_", *(["name"] if place.labelled else [])}
    given = {key: value for key, value in place.keys.items() if key not in reserved}
    supplied = layout.SUPPLIED.get(place.path, ())  # but a parameter that is None by default may be set, too
    parameters = description.parameters.items()
    expected = {name: p for name, p in parameters if name not in supplied or p.default is None}
    for name in [] if description.accepts_any else given.keys() - expected.keys():
        yield _unknown(place, name, expected)
    for name, parameter in expected.items():
        if name not in given and parameter.default is REQUIRED and name not in layout.FROM_PATHS:
            yield NO_OOD if (place.path, name) == ("", "ood") else f"{_join(place.path, name)} is missing"
    if place.path in layout.LABEL_REQUIRED and not place.keys.get("name"):
        yield f"{place.path}.name is missing: records state it"
    for key in layout.COLLECTIONS if not place.path else ():
        if place.keys.get(key) == {}:
            yield NO_OOD if key == "ood" else f"{key}: at least one is required"
    yield from _convert(place, description, given)


def _convert(place: Place, description: Description, given: Mapping[str, Any]) -> Iterator[str]:
    parameters = {name: description.parameters[name] for name in given if name in description.parameters}
    annotations = {name: p.annotation for name, p in parameters.items() if is_plain(p.annotation)}
    values, errors = converted(_model(description.target, tuple(annotations)), given)
    place.keys.update({name: list(value) if isinstance(value, tuple) else value for name, value in values.items()})
    first_error = {str(error["loc"][0]): error for error in reversed(errors)}
    for name in (name for name in annotations if name in first_error):
        is_fraction = name.endswith("epsilon") and isinstance(given[name], str)
        hint = ": it counts 1/255 pixel steps, write 8 for 8/255" if is_fraction else ""
        yield f"{_join(place.path, name)}: {reason({**first_error[name], 'input': given[name]})}{hint}"


@cache
def _model(target: str, names: tuple[str, ...]) -> "type[BaseModel]":
    """Return the pydantic model of some parameters of a class; to build one takes longer than to use it."""
    description = describe(target)
    return model_of(description.identity, {name: description.parameters[name].annotation for name in names})


def _unknown(place: Place, name: str, expected: Iterable[str]) -> str:
    key = _join(place.path, name)
    if key in layout.RENAMED:
        return f"{key} is now called {layout.RENAMED[key]}"
    if name in layout.SUPPLIED.get(place.path, ()):
        source = f"from the data: set data.{name}" if place.path == "net" else "from the other parts of the config"
        return f"{key} is not set here: it follows {source}"
    return f"{key} is unknown{did_you_mean(name, list(expected)) or did_you_mean(name, known_keys())}"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _without_inherited(epsilon: Any, problems: list[str]) -> Iterator[str]:
    """Drop duplicates of an `epsilon` error from keys that interpolate it."""
    is_invalid = any(problem.startswith("epsilon: ") for problem in problems)
    for problem in problems:
        key = problem.split(": ")[0]
        if not (is_invalid and key != "epsilon" and key.endswith("epsilon") and f"(got {epsilon!r})" in problem):
            yield problem


def _contradictions(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield what each key alone allows and the whole config does not."""
    trainer = content["trainer"]
    if trainer["max_steps"] < 0 and trainer["max_epochs"] < 0 and content["checkpoint"] is None:
        yield "training has no end: set trainer.max_epochs or trainer.max_steps"
    if zoo_name(content["checkpoint"]) is not None:
        yield from _of_the_zoo(content)
    if 0 in (trainer["max_steps"], trainer["max_epochs"]) and content["checkpoint"] is None:
        yield "training has no step: trainer.max_steps and trainer.max_epochs are positive, or -1 if the other is given"
    rejects = describe(content["objective"]["_target_"]).constants.get("rejection_class", False)
    for name, node in content["detector"].items():
        if describe(node["_target_"]).constants.get("requires_rejection_class") and not rejects:
            yield f"detector.{name} requires a net with a rejection class: objective=ntom or objective=atom"
    if rejects and content["net"].get("num_classes") is not None:
        yield "net.num_classes is not set here: it is the number of classes of the data, and one for outliers"
    if ".." in Path(content["study"]).parts + Path(content["cell"]).parts:
        yield f"study={content['study']} leaves the folder of the results: choose paths.outputs="
    for name in content["ood"]:
        if name == "id" or not re.fullmatch(r"[\w.-]+", name):  # scores of `id` are those of the data
            yield f"an OOD set cannot be called {name!r}: use letters, digits, '-', '_', and not id"
    for name in ("epsilon", "train_epsilon", "eval_epsilon"):
        inherited = name != "epsilon" and content[name] == content["epsilon"]
        if not inherited and (mistake := unit_mistake(content[name])):
            yield f"{name} {mistake} as attack.train.epsilon or attack.eval.epsilon"
    for part in ("train", "eval"):
        attack = content["attack"][part]
        whole = float(attack.get("epsilon", 0)).is_integer() and float(attack.get("step_size", 1)).is_integer()
        if attack.get("rounding", "none") != "none" and not whole:
            yield f"attack.{part}.rounding={attack['rounding']} requires epsilon and step_size in whole 1/255 steps"
    sets = {"data": content["data"], "outliers": content["outliers"]}
    sets |= {f"ood.{name}": node for name, node in content["ood"].items()}
    demo = {place: _is_demo(node) for place, node in sets.items()}
    if demo["data"] and False in demo.values():
        other = next(k for k, v in demo.items() if v is False)
        yield f"data=demo is combined with {other}: use +experiment=cifar10"
    if demo["data"] is False and any(demo.values()):
        name, other = content["data"]["name"], next(k for k, v in demo.items() if v)
        remedy = f"use +experiment={name}, or choose outliers= and ood= too"
        yield f"data={name} is combined with the demo's {other}: {remedy}"


def _of_the_zoo(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a checkpoint of the zoo; records must state its data, objective and budget.

    With images that a given net is only tested on, records state no training.
    """
    name = str(zoo_name(content["checkpoint"]))
    try:
        checkpoint_file(content["checkpoint"])
    except UserError as error:
        yield f"checkpoint: {error}"
        return
    if str(content["data"].get("_target_", "")).endswith("TestFolder"):
        return
    training = zoo_card(name)["training"]
    stated = {
        "data": content["data"].get("name"),
        "objective": content["objective"].get("name"),
        "train_epsilon": content["attack"]["train"].get("epsilon"),
    }
    expected = {"data": training["data"], "objective": training["objective"], "train_epsilon": training["epsilon"]}
    for key, value in expected.items():
        if value is not None and value != stated[key]:
            yield f"checkpoint=zoo:{name} was trained with {key}={value}, not {stated[key]}: add {key}={value}"


def _is_demo(node: Mapping[str, Any]) -> bool | None:
    """Return whether a set is of the embedded demo; None for a class from outside, which goes with any data."""
    target = str(node.get("_target_", ""))
    return target.startswith("aloe_lightning.data.Demo") if target.startswith("aloe_lightning.") else None


def known_keys() -> list[str]:
    """Return every key that some part of the config can have."""
    rooms = ("data", "nets", "objectives", "attacks", "detectors")
    targets = [ROOT, *layout.SECTIONS.values(), f"{layout.ROOT_MODULE}.WandbLogger"]
    targets += [target for room in rooms for target in targets_like(f"{room}.")]
    names = {"experiment", "sweep", "scale"}
    for target in targets:
        with suppress(LookupError):  # a function or a type among the exported names
            names |= describe(target).parameters.keys()
    return sorted(names)
