"""Types with ranges, for the signatures of the classes that a config builds. Imports neither torch nor pydantic."""

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Interval, Len, Lt

PositiveInt = Annotated[int, Gt(0)]
NonNegativeInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Lt(1)]
"""A fraction in [0, 1)."""
PositiveFraction = Annotated[float, Gt(0), Interval(le=1)]
"""A fraction in (0, 1]."""
Epsilon = Annotated[float, Interval(ge=0, le=255)]
"""An attack budget in 1/255 pixel steps."""
Channels = Annotated[Sequence[float], Len(3, 3)]
"""A number for each colour channel."""
Text = Annotated[str, Len(1)]
"""A non-empty text."""


def unit_mistake(eps: float) -> str:
    """Return why a budget that counts 1/255 pixel steps is surely meant as a fraction; "" for a plausible one."""
    if not 0 < eps < 0.5:
        return ""
    return (
        f"counts steps of 1/255 (got {eps:.4g}, which is {255 * eps:.4g}/255 as a fraction of the range of a pixel): "
        "8/255 is 8; a budget below half a step is given"
    )


@dataclass(frozen=True)
class Effect:
    """Annotation that limits which results the value of a parameter affects; without it, all results."""

    on: Literal["nothing", "test images", "location", "one net"]


NO_EFFECT = Effect("nothing")
"""Affects at most the speed; not part of any fingerprint."""
TEST_IMAGES = Effect("test images")
"""Selects test images; no training depends on it."""
LOCATION = Effect("location")
"""Location of files; affects results only if their content is not verified."""
ONE_NET = Effect("one net")
"""Belongs to a single trained net, as its seed does, such as weights that its training reads; nets that differ in it
may share a table."""


def key(comment: str, default: Any = MISSING) -> Any:
    """Return a dataclass field with its comment for `--help`, in place of an entry in the docstring."""
    return field(default=default, metadata={"comment": comment})
