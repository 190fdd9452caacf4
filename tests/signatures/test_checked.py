"""Arguments are checked against their annotations wherever a class is called."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest

from aloe_lightning.errors import UserError
from aloe_lightning.signatures.checked import checked, is_plain
from aloe_lightning.signatures.types import NO_EFFECT, Channels, Epsilon, PositiveFloat, PositiveInt


@checked
@dataclass(frozen=True, kw_only=True)
class Settings:
    size: PositiveInt
    rate: PositiveFloat | None = None
    epsilon: Epsilon = 1
    mean: Channels = (0.5, 0.5, 0.5)
    kind: Literal["a", "b"] = "a"
    fused: Annotated[bool | None, NO_EFFECT] = None
    other: object = None


def test_values_are_converted_and_objects_pass():
    thing = object()
    made = Settings(size=8.0, rate=2, fused="no", other=thing)
    assert (made.size, made.rate, made.fused, made.other) == (8, 2.0, False, thing)
    assert (type(made.size), type(made.rate)) == (int, float)
    assert made == Settings(size=8, rate=2.0, fused=False, other=thing)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"size": 0}, "Settings: size: input should be greater than 0 (got 0)"),
        ({"size": 1, "rate": float("nan")}, "rate: input should be a finite number (got nan)"),
        ({"size": 1, "epsilon": 256}, "epsilon: input should be less than or equal to 255 (got 256)"),
        ({"size": 1, "mean": [0.5]}, "mean: "),
        ({"size": 2.5, "kind": "c"}, "size: input should be a valid integer, got a number with a fractional part"),
        ({"size": 2.5, "kind": "c"}, "kind: input should be 'a' or 'b' (got 'c')"),
    ],
)
def test_each_argument_that_does_not_fit_is_named(arguments, told):
    with pytest.raises(UserError) as error:
        Settings(**arguments)
    assert told in str(error.value)


def test_unknown_and_missing_arguments_are_pythons_affair():
    with pytest.raises(TypeError, match="sise"):
        Settings(sise=1)
    with pytest.raises(TypeError, match="size"):
        Settings()


def test_plain_annotations():
    assert all(map(is_plain, (int, float | None, Sequence[float], Literal["a"], dict[str, int], Annotated[int, 1])))
    assert not any(map(is_plain, (object, type, Settings, Sequence[Settings], Settings | None)))
