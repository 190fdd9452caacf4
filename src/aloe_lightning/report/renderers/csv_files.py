"""Frames as CSV: one schema for a study and for the report; percent with two decimals."""

from typing import Any

import pandas as pd

from aloe_lightning.evaluation.records import SIDES
from aloe_lightning.paper.datasets import dataset_order
from aloe_lightning.report.frame import COLUMNS

OOD_METRICS = ("fpr95", "detection_error", "auroc", "aupr_in", "aupr_out", "tied_pairs")
PERCENT = ["value", "low", "high", "std", "published", "difference"]


def tables_csv(frame: pd.DataFrame) -> str:
    """Write every number of the tables, a line each; empty where something is unknown."""
    shown = frame[COLUMNS].astype({"method": str})
    for name in PERCENT:
        shown[name] = [f"{value:.2f}" if value == value else "" for value in shown[name]]
    for name in ("trained_at", "epsilon"):
        shown[name] = [f"{value:g}" if value == value else "" for value in shown[name]]
    return str(shown.to_csv(index=False, lineterminator="\n"))


def by_ood_csv(records: pd.DataFrame) -> str:
    """Write every metric of every method on each OOD set by attacked side, in percent; seeds averaged."""
    rows = records[records.metric.isin(OOD_METRICS)].rename(columns={"eval_epsilon": "epsilon"})
    place = ["dataset", "method", "epsilon", "side", "ood"]
    grouped = rows.groupby([*place, "metric"], sort=False)
    means = 100 * grouped.value.mean().unstack("metric")[list(OOD_METRICS)]
    counts = rows.groupby(place, sort=False)[["num_id", "num_ood"]].first()
    sets = list(dict.fromkeys(rows.ood))
    table = counts.join(means).reset_index()

    def order(row: Any) -> tuple[object, ...]:
        return dataset_order(row.dataset), row.method, row.epsilon, list(SIDES).index(row.side), sets.index(row.ood)

    table = table.loc[[row.Index for row in sorted(table.itertuples(), key=order)]].astype({"method": str})
    table["epsilon"] = [f"{value:g}" for value in table.epsilon]
    return str(table.to_csv(index=False, float_format="%.2f", lineterminator="\n"))
