"""Descriptions of the classes that a config may name: parameters (type, range, default, comment) and class constants.

Classes of this package are described from their source text (`source.py`), because importing torch takes seconds and a
mistake in the config should be reported at once. Other classes are imported.
"""

import inspect
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Annotated, Any, get_args, get_origin

from aloe_lightning.signatures.docstrings import parameter_comments
from aloe_lightning.signatures.source import REQUIRED, exported_classes, find_class
from aloe_lightning.signatures.types import Effect

PACKAGE = "aloe_lightning."


@dataclass(frozen=True)
class Parameter:
    """A parameter of a constructor.

    Attributes:
        annotation: its type with range; any annotation if the parameter takes an object.
        default: its default value, or `REQUIRED`.
        comment: its description in the docstring.
    """

    annotation: Any
    default: Any
    comment: str = ""

    @property
    def effect(self) -> str:
        """The results that its value affects: `all`, unless an `Effect` in the annotation limits them."""
        marks = get_args(self.annotation)[1:] if get_origin(self.annotation) is Annotated else ()
        return next((mark.on for mark in marks if isinstance(mark, Effect)), "all")


@dataclass(frozen=True)
class Description:
    """A class that a config names in a `_target_`.

    Attributes:
        target: its path.
        parameters: parameters of its constructor by name.
        constants: plain class attributes by name.
        accepts_any: True if its constructor takes any keyword.
    """

    target: str
    parameters: Mapping[str, Parameter]
    constants: Mapping[str, Any]
    accepts_any: bool = False

    @property
    def identity(self) -> str:
        """The name that identifies the class, independent of its module within the package."""
        return self.target.rpartition(".")[2] if self.target.startswith(PACKAGE) else self.target


@cache
def describe(target: str) -> Description:
    """Describe a class.

    Args:
        target: path of the class, such as `aloe_lightning.detectors.ODIN`.

    Raises:
        LookupError: if there is no such class; the message names the class and, for a failed import, the reason.
    """
    return _described_by_source(target) if target.startswith(PACKAGE) else _described_by_import(target)


def targets_like(target: str) -> list[str]:
    """Return the paths of all exported classes in the same room of this package, for suggestions."""
    room = target.removeprefix(PACKAGE).split(".")[0]
    return [f"{PACKAGE}{room}.{name}" for name in exported_classes(room)]


def _described_by_source(target: str) -> Description:
    source = find_class(target)
    if source is None:
        raise LookupError(f"nothing called {target!r}")
    comments = parameter_comments(source.docstrings())
    parameters = {
        name: Parameter(annotation, default, comments.get(name, ""))
        for name, (annotation, default) in source.parameters().items()
    }
    return Description(target, parameters, source.constants())


def _described_by_import(target: str) -> Description:
    module, _, name = target.rpartition(".")
    try:
        thing = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise LookupError(f"cannot import {target!r} ({error})") from error
    signature = inspect.signature(thing)
    try:
        construct = getattr(thing, "__init__") if isinstance(thing, type) else thing  # noqa: B009
        hints = typing.get_type_hints(construct, include_extras=True)
    except Exception:  # the annotations use names that are imported only for type checkers
        hints = {}
    kinds = {p.kind for p in signature.parameters.values()}
    parameters = {
        name: Parameter(hints.get(name, Any), REQUIRED if p.default is p.empty else p.default)
        for name, p in signature.parameters.items()
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    }
    plain = (bool, int, float, str)
    constants = {key: value for key, value in inspect.getmembers(thing) if isinstance(value, plain)}
    return Description(target, parameters, constants, inspect.Parameter.VAR_KEYWORD in kinds)
