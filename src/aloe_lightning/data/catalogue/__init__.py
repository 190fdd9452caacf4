"""The catalogue of named data sets: one YAML file each, without any code. Imports no torch."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from aloe_lightning.data.catalogue.card import Archive, DatasetCard
from aloe_lightning.errors import UserError, did_you_mean


@cache
def cards() -> dict[str, DatasetCard]:
    """Return the cards of all named sets by name; the files are read once."""
    folders = (Path(__file__).with_name(name) for name in ("in_distribution", "outliers", "ood"))
    return {file.stem: read_card(file) for folder in folders for file in sorted(folder.glob("*.yaml"))}


def read_card(file: Path) -> DatasetCard:
    """Read the card of a set from its YAML file, whose keys are the attributes of `DatasetCard`."""
    facts = _frozen(yaml.load(file.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    archives = tuple(Archive(**archive) for archive in facts.pop("archives", ()))
    return DatasetCard(name=file.stem, archives=archives, **facts)


def _frozen(value: Any) -> Any:
    """Turn lists into tuples."""
    if isinstance(value, dict):
        return {key: _frozen(part) for key, part in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def card_of(name: str) -> DatasetCard:
    """Return the card of a set by its name or its folder (`dtd`), or raise a UserError naming the nearest set."""
    for card in cards().values():
        if name == card.name or name in {path.split("/")[0] for paths in card.layouts for path in paths}:
            return card
    hint = did_you_mean(name, cards(), cutoff=0.5) or "."
    raise UserError(f"no data set called {name!r}{hint} Known: {', '.join(cards())}; or a path to custom images")
