"""The numbers of the paper's Tables 1 to 4, shipped with the package, in percent."""

import csv
from functools import cache
from importlib.resources import files
from typing import NamedTuple


class Place(NamedTuple):
    """The place of a number in the paper's tables; epsilon in 1/255 steps, 0 = clean."""

    table: str
    dataset: str
    method: str
    epsilon: float
    metric: str


@cache
def published_numbers() -> dict[Place, float]:
    """Return every published number by its place."""
    text = files("aloe_lightning.paper").joinpath("tables.csv").read_text()
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {
        Place(row["table"], row["dataset"], row["method"], float(row["epsilon"]), row["metric"]): float(row["value"])
        for row in rows
    }
