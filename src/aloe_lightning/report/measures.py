"""Rows of tables with what chance does to them: the spread over seeds, or a bootstrap interval where there is one."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from aloe_lightning.evaluation.records import Record
from aloe_lightning.paper.methods import DATASET_TITLES, method_of, objective_of
from aloe_lightning.paper.published import Row, published
from aloe_lightning.report.bootstrap import intervals, rejected_interval, share_interval, spread
from aloe_lightning.report.runs import Run, records_of_all
from aloe_lightning.report.tables import base_epsilon, first_budgets, tidy_rows
from aloe_lightning.runtime.progress import track

Interval = tuple[float, float]


@dataclass(frozen=True)
class Measure:
    """A number of a table, in percent.

    Attributes:
        row: what it is; the value is the mean over seeds.
        seeds: how many.
        std: standard deviation over seeds; None for one.
        interval: 95 % interval over the choice of test images, of a single seed; None for several.
        published: the paper's number in this place.
    """

    row: Row
    seeds: int
    std: float | None
    interval: Interval | None
    published: float | None

    @property
    def margin(self) -> float | None:
        """What stands behind the plus-minus: the deviation over seeds, else half of the interval."""
        if self.interval is None:
            return self.std
        return (self.interval[1] - self.interval[0]) / 2

    @property
    def difference(self) -> float | None:
        """Ours less the paper's."""
        return None if self.published is None else self.row.value - self.published


def measures(runs: Sequence[Run]) -> list[Measure]:
    """Every row of the tables of runs that stand together, all of one data set."""
    records = records_of_all(runs)
    bases = first_budgets(records)
    values: dict[Row, list[float]] = {}
    for seed in sorted({r.seed for r in records}):
        for row in tidy_rows([r for r in records if r.seed == seed], bases):
            values.setdefault(_place(row), []).append(row.value)
    chance = _intervals(runs) if any(len(each) == 1 for each in values.values()) else {}
    found = []
    for row in tidy_rows(records):
        each = values[_place(row)]
        mean = Row(row.table, row.dataset, row.method, row.epsilon, row.metric, fmean(each))
        std = spread(each) if len(each) > 1 else None
        interval = chance.get(_place(row)) if len(each) == 1 else None
        # The paper's clean numbers are of nets trained at 1, and ours of those of the first budget.
        comparable = row.epsilon > 0 or bases[records[0].dataset] == 1
        found.append(Measure(mean, len(each), std, interval, published(row) if comparable else None))
    return found


def _place(row: Row) -> Row:
    """The row without its value; Tables 1 and 3 are one."""
    table = row.table if row.table in ("table2", "table4") else ""
    return Row(table, row.dataset, row.method, row.epsilon, row.metric, 0)


def _intervals(runs: Sequence[Run]) -> dict[Row, Interval]:
    """Bootstrap intervals in percent for every place of the tables."""
    title = DATASET_TITLES.get(runs[0].cell.dataset, runs[0].cell.dataset)
    base = base_epsilon(runs[0].cell.dataset, [run.cell.eval_epsilon for run in runs])
    found: dict[Row, Interval] = {}

    def put(table: str, method: str, epsilon: float, metric: str, interval: Interval) -> None:
        place = Row(table, title, method, epsilon, metric, 0)
        found.setdefault(place, (100 * interval[0], 100 * interval[1]))

    for run in track(runs, len(runs), f"{title}: intervals", unit="cells"):
        epsilon, first = run.cell.eval_epsilon, run.cell.eval_epsilon == base
        scores = run.scores()
        sets = list(dict.fromkeys(r.ood for r in run.records if r.ood))
        named: dict[str, Record] = {r.detector: r for r in run.records if r.detector}
        for detector, record in named.items():
            method = method_of(record)
            for state, shown in (("clean", 0.0), ("attacked", epsilon)):
                if (state == "clean" and not first) or (state == "attacked" and epsilon == 0):
                    continue
                novel = {name: scores[f"{detector}/{name}/{state}"] for name in sets}
                for metric, interval in intervals(scores[f"{detector}/id/{state}"], novel).items():
                    put("", method, shown, metric, interval)
            misled = scores.get(f"{detector}/id/misclassified")
            if first and misled is not None:
                rejected = rejected_interval(scores[f"{detector}/id/clean"], misled)
                put("table2", method, epsilon, "one_minus_fpr95", rejected)
    for run in runs:
        if run.cell.eval_epsilon == base:
            for r in run.records:
                if r.metric == "accuracy":
                    shown = base if r.side == "id" else 0.0
                    put("table4", objective_of(r), shown, "accuracy", share_interval(r.value, r.num_id))
    return found


def measures_csv(found: Sequence[Measure]) -> str:
    """One line a number: the columns of the published ones, then what is known of its chance, and the paper's."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    place = ["table", "dataset", "method", "epsilon", "metric"]
    writer.writerow([*place, "value", "low", "high", "std", "seeds", "published", "difference"])
    for m in found:
        low, high = m.interval or (None, None)
        numbers = ["" if v is None else f"{v:.2f}" for v in (m.row.value, low, high, m.std)]
        paper = ["" if v is None else f"{v:.2f}" for v in (m.published, m.difference)]
        row = m.row
        where = [row.table, row.dataset, row.method, f"{row.epsilon:g}", row.metric]
        writer.writerow([*where, *numbers, m.seeds, *paper])
    return out.getvalue()
