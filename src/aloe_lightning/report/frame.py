"""Build the record-level and the table-level data frame from comparable runs."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import pandas as pd

from aloe_lightning.paper.datasets import dataset_order
from aloe_lightning.paper.methods import DETECTORS, OBJECTIVES, Method, distinct_titles
from aloe_lightning.paper.published import published
from aloe_lightning.paper.settings import PUBLISHED_EPSILONS
from aloe_lightning.report.bootstrap import spread
from aloe_lightning.report.intervals import intervals_of
from aloe_lightning.report.runs import ComparableRuns, Run

TABLE_METRICS = {"fpr95": "FPR95 ↓", "detection_error": "Det. error ↓", "auroc": "AUROC ↑"}
METRICS = (*TABLE_METRICS, "one_minus_fpr95", "accuracy")
NET_KEYS = ["dataset", "method", "trained_at"]
NUMBER_KEYS = ["table", *NET_KEYS, "budget", "epsilon", "metric"]
COLUMNS = [
    *(name for name in NUMBER_KEYS if name != "budget"),
    *("value", "low", "high", "std", "seeds", "published", "difference"),
]
"""The columns of `tables.csv`."""


def base_epsilon(dataset: str, epsilons: Sequence[float]) -> float:
    """Return the budget of Tables 1, 2 and 4.

    It is 1 for the paper's data sets if evaluated, else the smallest positive budget.
    """
    if dataset in PUBLISHED_EPSILONS and 1 in epsilons:
        return 1.0
    return min((epsilon for epsilon in epsilons if epsilon > 0), default=0.0)


def records_frame(groups: Sequence[ComparableRuns]) -> pd.DataFrame:
    """Return every record once, with its method.

    If a net is evaluated at budgets other than its training budget, the titles of its methods include the training
    budget.

    Returns:
        The columns

        - dataset (title), method, eval_epsilon, seed, side, ood, metric, value (a fraction), num_id, num_ood;
        - trained_at: training budget of the net, NaN without perturbations;
        - base: the budget of Table 1, see `base_epsilon`;
        - base_table: the table of the numbers attacked at that budget;
        - run: position among the runs of all groups.
    """
    records = [r for group in groups for r in group.records]
    objectives = distinct_titles({(r.objective, r.objective_title) for r in records}, OBJECTIVES)
    detectors = distinct_titles({(r.detector, r.detector_title) for r in records}, DETECTORS)
    rows, position = [], 0
    for group in groups:
        cells = [run.cell for run in group]
        base = base_epsilon(cells[0].dataset, [cell.eval_epsilon for cell in cells])
        is_larger = base > 1 and base in PUBLISHED_EPSILONS.get(cells[0].dataset, ())
        swept = {(c.objective, c.train_epsilon) for c in cells if c.train_epsilon not in (None, c.eval_epsilon)}
        for run, cell in zip(group, cells, strict=True):
            objective = objectives[cell.objective, cell.objective_title]
            trained_at = cell.train_epsilon if (cell.objective, cell.train_epsilon) in swept else None
            shared = {
                "dataset": group.dataset, "trained_at": cell.train_epsilon, "eval_epsilon": cell.eval_epsilon,
                "seed": cell.seed, "base": base, "base_table": "table3" if is_larger else "table1", "run": position,
            }  # fmt: skip
            for r in run.records:
                title = detectors[r.detector, r.detector_title]
                method = Method(cell.objective, r.detector, objective, title, trained_at)
                number = {name: getattr(r, name) for name in ("side", "ood", "metric", "value", "num_id", "num_ood")}
                rows.append({**shared, "method": method, **number})
            position += 1
    frame = pd.DataFrame(rows).astype({"trained_at": float, "eval_epsilon": float, "base": float})
    return frame.drop_duplicates([*NET_KEYS, "eval_epsilon", "seed", "side", "ood", "metric"], ignore_index=True)


def table_frame(records: pd.DataFrame, runs: Sequence[Run] = ()) -> pd.DataFrame:
    """Average records over OOD sets, then over seeds, in percent.

    - `table1`: clean numbers, and those attacked at the budget of `base_epsilon`.
    - `table2`: share of the images attacked to be misclassified that a method rejects, at the budget of `base_epsilon`.
    - `table3`: numbers attacked at every other budget, and clean numbers of the nets trained at it.
    - `table4`: accuracy, clean and under the attack on the classifier.

    Args:
        records: records as returned by `records_frame`.
        runs: runs indexed by the column `run`; enables bootstrap intervals for numbers of a single seed.

    Returns:
        `COLUMNS`, and budget: attack budget, or for clean numbers (epsilon 0) the training budget of the net.
    """
    shown = records[~records.method.map(lambda method: method.hidden)]
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
    first = {"run": ("run", "first"), "num_id": ("num_id", "first")}
    seeds = _grouped(numbers, [*NUMBER_KEYS, "seed"]).agg(value=("value", fmean), **first).reset_index()
    seeds["value"] *= 100
    over_seeds = {"value": ("value", fmean), "std": ("value", spread), "seeds": ("value", "size")}
    frame = _grouped(seeds, NUMBER_KEYS).agg(**over_seeds, **first).reset_index()
    order = sorted(range(len(frame)), key=[_order(row) for row in frame.itertuples()].__getitem__)
    frame = frame.iloc[order].reset_index(drop=True)
    frame["published"] = pd.Series([_published(row) for row in frame.itertuples()], dtype=float)
    frame["difference"] = frame.value - frame.published
    frame[["low", "high"]] = intervals_of(frame, runs) if runs else float("nan")
    return frame[[*COLUMNS, "budget"]]


def _grouped(frame: pd.DataFrame, names: list[str]) -> Any:
    return frame.groupby(names, sort=False, dropna=False)


def _attacked(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows[rows.eval_epsilon > 0]
    return rows.assign(epsilon=rows.eval_epsilon, budget=rows.eval_epsilon)


def _clean(rows: pd.DataFrame) -> pd.DataFrame:
    """Keep the clean numbers of each net once, even if it was evaluated at several budgets."""
    rows = rows.assign(other=rows.eval_epsilon != rows.base).sort_values(["other", "eval_epsilon"], kind="stable")
    rows = rows.drop_duplicates([*NET_KEYS, "seed", "ood", "metric"])
    for_one_budget = rows.trained_at.notna() & rows.method.map(lambda method: method.trained_at is None)
    return rows.assign(epsilon=0.0, budget=rows.trained_at.where(for_one_budget, rows.base))


def _order(row: Any) -> tuple[object, ...]:
    place = row.table, dataset_order(row.dataset), row.method.order
    return *place, row.epsilon, row.budget, METRICS.index(row.metric)


def _published(row: Any) -> float | None:
    """Look up the paper's number: the paper trains at the evaluation budget; Table 1 uses epsilon 1."""
    perturbs_nothing = math.isnan(row.trained_at)
    if not row.method.in_paper or not (perturbs_nothing or row.trained_at == (row.epsilon or 1)):
        return None
    return published(row.table, row.dataset, row.method.name, row.epsilon, row.metric)
