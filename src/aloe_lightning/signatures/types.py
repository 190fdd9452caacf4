"""Types with ranges, for the signatures of whatever a config builds. Imports neither torch nor pydantic."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval, Len, Lt

PositiveInt = Annotated[int, Gt(0)]
NonNegativeInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Lt(1)]
"""In [0, 1)."""
PositiveFraction = Annotated[float, Gt(0), Interval(le=1)]
"""In (0, 1]."""
Epsilon = Annotated[float, Interval(ge=0, le=255)]
"""An attack budget in 1/255 pixel steps."""
Channels = Annotated[Sequence[float], Len(3, 3)]
"""A number for each colour channel."""
Text = Annotated[str, Len(1)]
"""Not empty."""


@dataclass(frozen=True)
class Effect:
    """A mark on a parameter: what its value decides. A parameter without a mark decides every result."""

    on: Literal["nothing", "test images", "location"]


NO_EFFECT = Effect("nothing")
"""Changes the speed at most, so that no fingerprint holds it."""
TEST_IMAGES = Effect("test images")
"""Chooses among test images, so that no training depends on it."""
LOCATION = Effect("location")
"""Tells where files are; it decides a result only where their content is not verified."""
