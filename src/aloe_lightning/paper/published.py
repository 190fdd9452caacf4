"""The numbers of the paper's Tables 1 to 4, shipped with the package, in percent."""

import csv
from functools import cache
from importlib.resources import files
from typing import NamedTuple


class Published(NamedTuple):
    """One line of `tables.csv`; epsilon in 1/255 steps, 0 = clean; value in percent."""

    table: str
    dataset: str
    method: str
    epsilon: float
    metric: str
    value: float


@cache
def published_rows() -> tuple[Published, ...]:
    """Return every published number."""
    text = files("aloe_lightning.paper").joinpath("tables.csv").read_text()
    _, *lines = csv.reader(line for line in text.splitlines() if not line.startswith("#"))
    return tuple(
        Published(t, dataset, method, float(e), metric, float(v)) for t, dataset, method, e, metric, v in lines
    )


@cache
def _values() -> dict[tuple[str, str, str, float, str], float]:
    return {row[:5]: row.value for row in published_rows()}


def published(table: str, dataset: str, method: str, epsilon: float, metric: str) -> float | None:
    """Return the paper's number for a place of its tables; None where it has none."""
    return _values().get((table, dataset, method, epsilon, metric))
