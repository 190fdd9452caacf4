"""The numbers of the paper's Tables 1 to 4, shipped with the package, in percent."""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class Row:
    """One line of `tables.csv`; epsilon in 1/255 steps, 0 = clean; value in percent."""

    table: str
    dataset: str
    method: str
    epsilon: float
    metric: str
    value: float


@cache
def published_rows() -> tuple[Row, ...]:
    """Every published number."""
    text = files("aloe_lightning.paper").joinpath("tables.csv").read_text()
    lines = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return tuple(
        Row(r["table"], r["dataset"], r["method"], float(r["epsilon"]), r["metric"], float(r["value"])) for r in lines
    )


@cache
def _values() -> dict[tuple[str, str, str, float, str], float]:
    return {(r.table, r.dataset, r.method, r.epsilon, r.metric): r.value for r in published_rows()}


def published(row: Row) -> float | None:
    """What the paper has in the place of a row of ours; None where it has nothing."""
    return _values().get((row.table, row.dataset, row.method, row.epsilon, row.metric))
