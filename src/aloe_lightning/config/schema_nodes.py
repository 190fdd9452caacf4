"""What every part of the config is made of."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

Positive = Annotated[int, Field(gt=0)]
Channels = Annotated[list[float], Field(min_length=3, max_length=3)]


class Node(BaseModel):
    """A part of the config: no key besides those declared."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Target(Node):
    """A part that Hydra builds."""

    target: str = Field(alias="_target_")


class Foreign(BaseModel):
    """Somebody's own class under a `_target_` outside this package: its keys are its own affair."""

    model_config = ConfigDict(extra="allow", frozen=True)
    target: str = Field(alias="_target_")
    name: str | None = None


def by_target(value: Any) -> str:
    """The `_target_` of a node if it is ours, else `foreign`; empty for what is no node, which fits nothing."""
    if isinstance(value, Target | Foreign):
        value = {"_target_": value.target}
    target = str(value.get("_target_", "")) if isinstance(value, dict) else ""
    return target if target.startswith("aloe_lightning.") or not target else "foreign"


def either(**nodes: type[Target]) -> Any:
    """A union told apart by `_target_`: class path within the package -> node."""
    tagged: Any = Annotated[Foreign, Tag("foreign")]
    for path, node in nodes.items():
        tagged = tagged | Annotated[node, Tag(f"aloe_lightning.{path.replace('__', '.')}")]
    return Annotated[tagged, Discriminator(by_target)]
