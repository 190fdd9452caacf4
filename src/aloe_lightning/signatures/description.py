"""Descriptions of the classes that a config may name: parameters (type, range, default, comment) and class constants.

Classes of this package are described from their source text (`source.py`), because importing torch takes seconds and a
mistake in the config should be reported at once. Other classes are imported.
"""

import inspect
import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Annotated, Any, get_args, get_origin

from aloe_lightning.signatures.source import PACKAGE, is_own_class, outline
from aloe_lightning.signatures.types import Effect

REQUIRED = object()
"""Sentinel for a parameter without a default."""
DOCSTRING_SECTION = re.compile(r"^(?:Attributes|Args):\n((?: .*\n|\n)*)", re.MULTILINE)
DOCSTRING_ENTRY = re.compile(r"^    (\w+): (.*(?:\n     .*)*)", re.MULTILINE)


@dataclass(frozen=True)
class Parameter:
    """A parameter of a constructor: its type with range, its default or `REQUIRED`, its entry in the docstring."""

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
    """A class that a config names in a `_target_`."""

    target: str
    parameters: Mapping[str, Parameter]
    constants: Mapping[str, Any]  # class attributes that are numbers or text
    accepts_any: bool = False  # its constructor takes any keyword

    @property
    def identity(self) -> str:
        """The name that identifies the class, independent of its module within the package."""
        return self.target.rpartition(".")[2] if self.target.startswith(PACKAGE) else self.target


@cache
def describe(target: str) -> Description:
    """Describe the class at a path, such as `aloe_lightning.detectors.ODIN`; LookupError if there is none."""
    thing = _find(target)
    signature = inspect.signature(thing)
    try:
        construct = getattr(thing, "__init__") if isinstance(thing, type) else thing  # noqa: B009
        hints = typing.get_type_hints(construct, include_extras=True)
    except Exception:  # the annotations use names that are imported only for type checkers
        hints = {}
    comments = parameter_comments(cls.__doc__ or "" for cls in reversed(getattr(thing, "__mro__", (thing,))))
    fields = getattr(thing, "__dataclass_fields__", {})
    comments |= {name: field.metadata["comment"] for name, field in fields.items() if "comment" in field.metadata}
    parameters = {}
    for name, parameter in signature.parameters.items():
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            default = REQUIRED if parameter.default is parameter.empty else parameter.default
            if repr(default) == "<factory>":
                default = fields[name].default_factory()
            parameters[name] = Parameter(hints.get(name, Any), default, comments.get(name, ""))
    constants = {key: value for key, value in inspect.getmembers(thing) if isinstance(value, int | float | str)}
    accepts_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())
    return Description(target, parameters, constants, accepts_any)


def _find(target: str) -> Any:
    module, _, name = target.rpartition(".")
    if target.startswith(PACKAGE):
        thing = outline(module).get(name)
        if not is_own_class(thing):
            raise LookupError(f"nothing called {target!r}")
        return thing
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise LookupError(f"cannot import {target!r} ({error})") from error


def targets_like(target: str) -> list[str]:
    """Return the paths of all exported classes in the same room of this package, for suggestions."""
    room = PACKAGE + target.removeprefix(PACKAGE).split(".")[0]
    return [f"{room}.{name}" for name in outline(room) if name[:1].isupper()]


def parameter_comments(docstrings: Iterable[str]) -> dict[str, str]:
    """Return the text of each entry under `Attributes:` and `Args:`, one line each; later docstrings win."""
    comments: dict[str, str] = {}
    for text in docstrings:
        for section in DOCSTRING_SECTION.findall(f"{inspect.cleandoc(text)}\n"):
            comments |= {name: " ".join(entry.split()) for name, entry in DOCSTRING_ENTRY.findall(section)}
    return comments
