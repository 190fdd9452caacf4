"""Constructor arguments are checked against the annotations of their parameters, in Python use as from a config."""

import inspect
import typing
from collections.abc import Mapping, Sequence
from functools import cache, wraps
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from aloe_lightning.errors import UserError

if TYPE_CHECKING:
    from pydantic import BaseModel

C = TypeVar("C")
PLAIN = (int, float, str, bool, NoneType, Path)
CONTAINERS = (list, tuple, dict, Sequence, Mapping)


def checked(cls: type[C]) -> type[C]:
    """Check the arguments of a class's constructor whenever it is called; UserError names each that does not fit.

    Each argument of a plain type (numbers, text, lists of them) is converted to the type of its annotation, within the
    annotated range; other objects pass through.
    """
    construct = cls.__init__
    signature = inspect.signature(construct)

    @wraps(construct)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            bound = signature.bind(self, *args, **kwargs)
        except TypeError:
            construct(self, *args, **kwargs)  # raises, in Python's own words
            raise
        values, errors = converted(_plain_model(self.__class__), bound.arguments)
        if errors:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {reason(e)}" for e in errors)
            raise UserError(f"{type(self).__name__}: {problems}")
        bound.arguments |= values
        construct(*bound.args, **bound.kwargs)

    cls.__init__ = __init__  # type: ignore[method-assign]
    return cls


def converted(model: "type[BaseModel]", arguments: Mapping[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """Return those of the arguments that a model declares, converted to their types; or pydantic's errors."""
    from pydantic import ValidationError

    given = {name: value for name, value in arguments.items() if name in model.model_fields}
    switches = [
        n for n, v in given.items() if isinstance(v, bool) and not _accepts_bool(model.model_fields[n].annotation)
    ]
    if switches:  # pydantic takes true for the number 1
        return {}, [
            {"loc": (name,), "msg": "Input should not be true or false", "input": given[name]} for name in switches
        ]
    try:
        values = model.model_validate(given)
    except ValidationError as error:
        return {}, error.errors()
    return {name: getattr(values, name) for name in given}, []


def _accepts_bool(annotation: Any) -> bool:
    """Return whether a parameter is a switch, or of a type that pydantic does not convert a bool to."""
    if get_origin(annotation) in (Union, UnionType, Annotated):
        parts = get_args(annotation)[:1] if get_origin(annotation) is Annotated else get_args(annotation)
        return any(_accepts_bool(part) for part in parts)
    return annotation not in (int, float, NoneType)


def reason(error: Any) -> str:
    """Say in words why pydantic refused a value, and which it was."""
    return f"{error['msg'][0].lower()}{error['msg'][1:]} (got {error['input']!r})"


@cache
def _plain_model(cls: type) -> "type[BaseModel]":
    hints = typing.get_type_hints(getattr(cls, "__init__"), include_extras=True)  # noqa: B009
    return model_of(cls.__name__, {name: hint for name, hint in hints.items() if name != "return" and is_plain(hint)})


def model_of(name: str, annotations: Mapping[str, Any]) -> "type[BaseModel]":
    """Return a pydantic model with a field for each annotation, none of them required."""
    from pydantic import ConfigDict, create_model

    fields: dict[str, Any] = {field: (annotation, None) for field, annotation in annotations.items()}
    settings = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())
    return create_model(name, __config__=settings, **fields)


def is_plain(annotation: Any) -> bool:
    """Return whether an annotation is made of numbers, text and containers of them only."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return is_plain(parts[0])
    if origin in (Union, UnionType, *CONTAINERS):
        return all(is_plain(part) for part in parts if part is not ...)
    return origin is Literal or annotation is Any or annotation in PLAIN
