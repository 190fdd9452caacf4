"""Validate the composed config before anything is built, and report all problems at once with suggestions."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from aloe_lightning.config.contradictions import contradictions
from aloe_lightning.config.layout import COLLECTIONS, FROM_PATHS, LABEL_REQUIRED, RENAMED, ROOT, SECTIONS, Place, places
from aloe_lightning.errors import UserError
from aloe_lightning.signatures.checked import is_plain, model_of, reason
from aloe_lightning.signatures.description import Description, describe, targets_like
from aloe_lightning.signatures.source import REQUIRED
from aloe_lightning.storage.fingerprints import image_node

NO_OOD = "no OOD test set is given: 'ood=[textures]' names one, +ood.NAME=/path/to/images is a custom one"


def validated(cfg: DictConfig) -> dict[str, Any]:
    """Return the config as plain, resolved, checked values.

    Every group of keys is checked against the signature of the class that it builds.

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
    problems = list(_without_inherited(content.get("epsilon"), problems)) or list(contradictions(content))
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
        yield f"{place.path}: {error.args[0]}{nearest(place.target, targets_like(place.target))}"
        return
    reserved = {"_target_", *(["name"] if place.labelled else [])}
    given = {key: value for key, value in place.keys.items() if key not in reserved}
    supplied = {name for name, p in description.parameters.items() if name in place.supplied and p.default is not None}
    expected = {name: p for name, p in description.parameters.items() if name not in supplied}
    for name in [] if description.accepts_any else given.keys() - expected.keys():
        yield _unknown(place, name, expected)
    for name, parameter in expected.items():
        if name not in given and parameter.default is REQUIRED and name not in FROM_PATHS:
            yield NO_OOD if (place.path, name) == ("", "ood") else f"{_join(place.path, name)} is missing"
    if place.path in LABEL_REQUIRED and not place.keys.get("name"):
        yield f"{place.path}.name is missing: records state it"
    for key in COLLECTIONS if not place.path else ():
        if place.keys.get(key) == {}:
            yield NO_OOD if key == "ood" else f"{key}: at least one is required"
    yield from _convert(place, description, given)


def _convert(place: Place, description: Description, given: Mapping[str, Any]) -> Iterator[str]:
    parameters = description.parameters
    annotations = {
        name: parameters[name].annotation
        for name in given
        if name in parameters and parameters[name].annotation is not Any and is_plain(parameters[name].annotation)
    }
    model = model_of(description.identity, annotations)
    try:
        checked = model.model_validate({name: given[name] for name in annotations})
    except ValidationError as error:
        first_error = {str(e["loc"][0]): e for e in reversed(error.errors())}
        for name in (name for name in annotations if name in first_error):
            is_fraction = name.endswith("epsilon") and isinstance(given[name], str)
            hint = ": it counts 1/255 pixel steps, write 8 for 8/255" if is_fraction else ""
            yield f"{_join(place.path, name)}: {reason({**first_error[name], 'input': given[name]})}{hint}"
        return
    place.keys.update({name: _plain(getattr(checked, name)) for name in annotations})


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _unknown(place: Place, name: str, expected: Iterable[str]) -> str:
    key = _join(place.path, name)
    if key in RENAMED:
        return f"{key} is now called {RENAMED[key]}"
    if name in place.supplied:
        return f"{key} is not set here: it follows from the other parts of the config"
    return f"{key} is unknown{nearest(name, list(expected)) or nearest(name, known_keys())}"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _without_inherited(epsilon: Any, problems: list[str]) -> Iterator[str]:
    """Drop duplicates of an `epsilon` error from keys that interpolate it."""
    is_invalid = any(problem.startswith("epsilon: ") for problem in problems)
    for problem in problems:
        key = problem.split(": ")[0]
        if not (is_invalid and key != "epsilon" and key.endswith("epsilon") and f"(got {epsilon!r})" in problem):
            yield problem


def nearest(name: str, known: list[str]) -> str:
    """Return a "did you mean" question for the end of a message; "" if no known name is near."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f", did you mean {close[0]!r}?" if close else ""


def known_keys() -> list[str]:
    """Return every key that some part of the config can have."""
    rooms = ("data", "nets", "objectives", "attacks", "detectors")
    here = f"{ROOT.rpartition('.')[0]}."
    targets = [ROOT, *SECTIONS.values(), f"{here}WandbLogger", *(t for room in rooms for t in targets_like(f"{room}."))]
    names = {"experiment", "sweep", "scale"}
    for target in targets:
        try:
            names |= describe(target).parameters.keys()
        except LookupError:  # a function or a type among the exported names
            continue
    return sorted(names)
