"""Build the record-level and the table-level data frame from comparable runs."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import pandas as pd

from aloe_lightning.paper.datasets import dataset_order
from aloe_lightning.paper.methods import DETECTORS, OBJECTIVES, Method, distinct_titles
from aloe_lightning.paper.published import Place, published_numbers
from aloe_lightning.paper.settings import PUBLISHED_EPSILONS
from aloe_lightning.report.intervals import intervals_of
from aloe_lightning.report.runs import Groups

TABLE_METRICS = {"fpr95": "FPR95 ↓", "detection_error": "Det. error ↓", "auroc": "AUROC ↑"}
METRICS = (*TABLE_METRICS, "one_minus_fpr95", "accuracy")
NET_KEYS = ["dataset", "method", "trained_at"]
NUMBER_KEYS = ["table", *NET_KEYS, "budget", "epsilon", "metric"]
COLUMNS = [
    *(name for name in NUMBER_KEYS if name != "budget"),
    *("value", "low", "high", "std", "seeds", "published", "difference"),
]
"""The columns of `tables.csv`."""
OF_RECORD = ("eval_epsilon", "seed", "side", "ood", "metric", "value", "num_id", "num_ood")


def base_epsilon(dataset: str, epsilons: Sequence[float]) -> float:
    """Return the budget of Tables 1, 2 and 4: 1 for the paper's data sets if evaluated, else the least positive one."""
    if dataset in PUBLISHED_EPSILONS and 1 in epsilons:
        return 1.0
    return min((epsilon for epsilon in epsilons if epsilon > 0), default=0.0)


def records_frame(groups: Groups) -> pd.DataFrame:
    """Return every record once, with its method, whose title has the training budget if the net meets other budgets.

    Returns:
        The columns `OF_RECORD` (value as a fraction), dataset (title), method, and

        - trained_at: training budget of the net, NaN without perturbations;
        - base: the budget of Table 1, see `base_epsilon`, and base_table: the table of the numbers attacked at it;
        - folder: folder of the run.
    """
    records = [r for runs in groups.values() for run in runs for r in run.records]
    objectives = distinct_titles({(r.objective, r.objective_title) for r in records}, OBJECTIVES)
    detectors = distinct_titles({(r.detector, r.detector_title) for r in records}, DETECTORS)
    rows = []
    for dataset, runs in groups.items():
        cells = [run.cell for run in runs]
        base = base_epsilon(cells[0].dataset, [cell.eval_epsilon for cell in cells])
        base_table = "table3" if base > 1 and base in PUBLISHED_EPSILONS.get(cells[0].dataset, ()) else "table1"
        swept = {(c.objective, c.train_epsilon) for c in cells if c.train_epsilon not in (None, c.eval_epsilon)}
        for run in runs:
            shared = {"dataset": dataset, "base": base, "base_table": base_table, "folder": run.folder}
            for r in run.records:
                titles = objectives[r.objective, r.objective_title], detectors[r.detector, r.detector_title]
                trained_at = r.train_epsilon if (r.objective, r.train_epsilon) in swept else None
                method = Method(r.objective, r.detector, *titles, trained_at)
                number = {name: getattr(r, name) for name in OF_RECORD}
                rows.append({**shared, "method": method, "trained_at": r.train_epsilon, **number})
    frame = pd.DataFrame(rows).astype({"trained_at": float, "eval_epsilon": float, "base": float})
    return frame.drop_duplicates([*NET_KEYS, "eval_epsilon", "seed", "side", "ood", "metric"], ignore_index=True)


def without_hidden(rows: pd.DataFrame) -> pd.DataFrame:
    """Leave out the combinations of the paper's objectives and detectors that its tables lack."""
    return rows[~rows.method.map(lambda method: method.hidden)]


def attacked_as_trained(rows: pd.DataFrame) -> Any:
    """Mark the numbers of nets that are attacked at their training budget only, as a Boolean series."""
    return rows.trained_at.notna() & rows.method.map(lambda method: method.trained_at is None)


def table_frame(records: pd.DataFrame, *, intervals: bool = False) -> pd.DataFrame:
    """Average records over OOD sets, then over seeds, in percent.

    - `table1`: clean numbers, and those attacked at the budget of `base_epsilon`.
    - `table2`: share of the images attacked to be misclassified that a method rejects, at the budget of `base_epsilon`.
    - `table3`: numbers attacked at every other budget, and clean numbers of the nets trained at it.
    - `table4`: accuracy, clean and under the attack on the classifier.

    Args:
        records: records as returned by `records_frame`.
        intervals: compute bootstrap intervals for the numbers of a single seed.

    Returns:
        `COLUMNS`; budget: of the attack, or for clean numbers (epsilon 0) of the net's training; and margin: half of
        the interval, else the deviation over seeds, NaN if unknown.
    """
    shown = without_hidden(records)
    detection = shown[shown.metric.isin(list(TABLE_METRICS))]
    accuracy = shown[shown.metric == "accuracy"].assign(table="table4")
    attacked = _attacked(detection[detection.side == "both"])
    clean = _clean(detection[detection.side == "none"])
    rejected = _attacked(shown[(shown.metric == "one_minus_fpr95") & (shown.eval_epsilon == shown.base)])
    numbers = pd.concat(
        [
            attacked.assign(table=attacked.base_table.where(attacked.budget == attacked.base, "table3")),
            clean.assign(table=(clean.budget == clean.base).map({True: "table1", False: "table3"})),
            rejected.assign(table="table2"),
            _attacked(accuracy[accuracy.side == "id"]),
            _clean(accuracy[accuracy.side == "none"]),
        ]
    )
    first = {"folder": ("folder", "first"), "num_id": ("num_id", "first")}
    grouping: dict[str, Any] = {"sort": False, "dropna": False}
    seeds = numbers.groupby([*NUMBER_KEYS, "seed"], **grouping).agg(value=("value", fmean), **first).reset_index()
    seeds["value"] *= 100
    over_seeds = {"value": ("value", fmean), "std": ("value", "std"), "seeds": ("value", "size")}
    frame = seeds.groupby(NUMBER_KEYS, **grouping).agg(**over_seeds, **first).reset_index()
    frame = frame.loc[[row.Index for row in sorted(frame.itertuples(), key=_order)]].reset_index(drop=True)
    frame["published"] = pd.Series([_published(row) for row in frame.itertuples()], dtype=float)
    frame["difference"] = frame.value - frame.published
    frame[["low", "high"]] = intervals_of(frame) if intervals else float("nan")
    frame["margin"] = ((frame.high - frame.low) / 2).fillna(frame["std"])
    return frame[[*COLUMNS, "budget", "margin"]]


def _attacked(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows[rows.eval_epsilon > 0]
    return rows.assign(epsilon=rows.eval_epsilon, budget=rows.eval_epsilon)


def _clean(rows: pd.DataFrame) -> pd.DataFrame:
    """Keep the clean numbers of each net once, even if it was evaluated at several budgets."""
    rows = rows.assign(other=rows.eval_epsilon != rows.base).sort_values(["other", "eval_epsilon"], kind="stable")
    rows = rows.drop_duplicates([*NET_KEYS, "seed", "ood", "metric"])
    return rows.assign(epsilon=0.0, budget=rows.trained_at.where(attacked_as_trained(rows), rows.base))


def _order(row: Any) -> tuple[object, ...]:
    place = row.table, dataset_order(row.dataset), row.method.order
    return *place, row.epsilon, row.budget, METRICS.index(row.metric)


def _published(row: Any) -> float | None:
    """Look up the paper's number: the paper trains at the evaluation budget; Table 1 uses epsilon 1."""
    perturbs_nothing = math.isnan(row.trained_at)
    if not row.method.in_paper or not (perturbs_nothing or row.trained_at == (row.epsilon or 1)):
        return None
    return published_numbers().get(Place(row.table, row.dataset, row.method.name, row.epsilon, row.metric))
