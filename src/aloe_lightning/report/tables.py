"""Records -> tables: tidy CSV in the columns of the paper's published numbers, and the paper's Table 1 as text."""

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from statistics import fmean

from aloe_lightning.evaluation.records import Record, Side
from aloe_lightning.paper.methods import (
    DATASET_TITLES,
    budget,
    method_of,
    method_order,
    objective_of,
    objective_order,
    row_order,
)
from aloe_lightning.paper.published import Row
from aloe_lightning.paper.settings import PUBLISHED_EPSILONS

TABLE_METRICS = {"fpr95": "FPR95 ↓", "detection_error": "Det. error ↓", "auroc": "AUROC ↑"}
ALL_METRICS = ("fpr95", "detection_error", "auroc", "aupr_in", "aupr_out", "tied_pairs")


def base_epsilon(dataset: str, epsilons: Sequence[float]) -> float:
    """The budget of Tables 1, 2 and 4: 1 where the paper has the data and it is there, else the least above 0."""
    if dataset in PUBLISHED_EPSILONS and 1 in epsilons:
        return 1.0
    return min((epsilon for epsilon in epsilons if epsilon > 0), default=0.0)


def first_budgets(records: Sequence[Record]) -> dict[str, float]:
    """`base_epsilon` of every data set."""
    epsilons: dict[str, set[float]] = {}
    for r in records:
        epsilons.setdefault(r.dataset, set()).add(r.eval_epsilon)
    return {dataset: base_epsilon(dataset, sorted(found)) for dataset, found in epsilons.items()}


def table_of(dataset: str, epsilon: float, base: float) -> str:
    """The table of the paper that has the numbers at an attack's budget (0: clean)."""
    larger = epsilon not in (0, base) or (epsilon > 1 and epsilon in PUBLISHED_EPSILONS.get(dataset, ()))
    return "table3" if larger else "table1"


def tidy_rows(records: Sequence[Record], bases: Mapping[str, float] | None = None) -> list[Row]:
    """Means over the OOD sets (and over seeds), as the paper tabulates them.

    `table1` holds the clean numbers and those at the first budget (see `base_epsilon`), `table3` those at every other;
    `table2` the share of images attacked to be misclassified that a method rejects, `table4` the accuracy, clean and so
    attacked, both at the first budget. Clean numbers come from the nets of the first budget.

    Args:
        records: of any number of data sets and seeds.
        bases: first budget of each data set, for records that are a part of those that decide it.
    """
    rows: list[Row] = []
    bases = first_budgets(records) if bases is None else bases
    for dataset in sorted({r.dataset for r in records}):
        title = DATASET_TITLES.get(dataset, dataset)
        mine = [r for r in records if r.dataset == dataset]
        base = bases[dataset]
        for record_side, epsilon, shown in _columns(mine, base):
            chosen = [r for r in mine if r.eval_epsilon == epsilon and r.side == record_side and r.ood]
            table = table_of(dataset, shown, base)
            for (method, metric), value in _means(chosen, lambda r: (method_of(r), r.metric)).items():
                if row_order(method) and metric in TABLE_METRICS:
                    rows.append(Row(table, title, method, shown, metric, 100 * value))
        first = [r for r in mine if r.eval_epsilon == base]
        rejected = [r for r in first if r.metric == "one_minus_fpr95" and base > 0]
        for (method,), value in _means(rejected, lambda r: (method_of(r),)).items():
            if row_order(method):
                rows.append(Row("table2", title, method, base, "one_minus_fpr95", 100 * value))
        for shown in sorted({0.0, base}):
            accuracy = [r for r in first if r.metric == "accuracy" and (r.side == "id") == (shown > 0)]
            for (objective,), value in _means(accuracy, lambda r: (objective_of(r),)).items():
                rows.append(Row("table4", title, objective, shown, "accuracy", 100 * value))
    metrics = [*TABLE_METRICS, "one_minus_fpr95", "accuracy"]

    def order(row: Row) -> tuple[object, ...]:
        place = objective_order(row.method) if row.table == "table4" else row_order(row.method)
        return row.table, row.dataset, place, row.epsilon, metrics.index(row.metric)

    return sorted(rows, key=order)


def _columns(records: Sequence[Record], base: float) -> Iterator[tuple[Side, float, float]]:
    """Attacked side, budget of the nets and budget shown, of each column of Tables 1 and 3."""
    for epsilon in sorted({r.eval_epsilon for r in records}):
        if epsilon == base:
            yield "none", epsilon, 0
        if epsilon > 0:
            yield "both", epsilon, epsilon


def _means(records: Iterable[Record], key: Callable[[Record], tuple[str, ...]]) -> dict[tuple[str, ...], float]:
    groups: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for record in records:
        groups[key(record)].append(record.value)
    return {name: fmean(values) for name, values in groups.items()}


def read_tidy_csv(text: str) -> list[Row]:
    """What `tidy_csv` wrote; values as rounded there."""
    lines = csv.DictReader(io.StringIO(text))
    return [
        Row(r["table"], r["dataset"], r["method"], float(r["epsilon"]), r["metric"], float(r["value"])) for r in lines
    ]


def tidy_csv(rows: Sequence[Row]) -> str:
    """`table,dataset,method,epsilon,metric,value`: the columns of the published numbers; percent, two decimals."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["table", "dataset", "method", "epsilon", "metric", "value"])
    writer.writerows([r.table, r.dataset, r.method, f"{r.epsilon:g}", r.metric, f"{r.value:.2f}"] for r in rows)
    return out.getvalue()


def by_ood_csv(records: Sequence[Record]) -> str:
    """Every metric of every method on each OOD set by attacked side, in percent; seeds averaged."""
    chosen = [r for r in records if r.ood]
    keys = {(r.dataset, method_of(r), r.eval_epsilon, r.side, r.ood): (r.num_id, r.num_ood) for r in chosen}
    means = _means(chosen, lambda r: (r.dataset, method_of(r), f"{r.eval_epsilon:g}", r.side, r.ood, r.metric))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["dataset", "method", "epsilon", "side", "ood", "num_id", "num_ood", *ALL_METRICS])
    for (dataset, method, epsilon, side, ood), counts in keys.items():
        name = (dataset, method, f"{epsilon:g}", side, ood)
        values = [f"{100 * means[(*name, metric)]:.2f}" for metric in ALL_METRICS]
        writer.writerow([DATASET_TITLES.get(dataset, dataset), *name[1:], *counts, *values])
    return out.getvalue()


def paper_shape(rows: Sequence[Row], dataset: str) -> tuple[list[str], list[list[str]]]:
    """Table 1's header and body for one data set: method, then the metrics clean and attacked at each epsilon.

    A column's name is its state and its metric, on two lines.
    """
    mine = [r for r in rows if r.dataset == dataset]
    cells = {(r.method, r.epsilon, r.metric): f"{r.value:.2f}" for r in mine}
    epsilons = sorted({r.epsilon for r in mine if r.table != "table4"})
    methods = sorted({r.method for r in mine if r.table != "table4"}, key=method_order)
    header = ["Method"]
    for epsilon in epsilons:
        header += [f"{budget(epsilon)}\n{title}" for title in TABLE_METRICS.values()]
    body = [[m, *(cells.get((m, e, metric), "–") for e in epsilons for metric in TABLE_METRICS)] for m in methods]
    return header, body


def markdown(rows: Sequence[Row], caption: str) -> str:
    """Table 1 for each data set, and the clean accuracies, as Markdown."""
    parts = []
    for dataset in dict.fromkeys(r.dataset for r in rows):
        header, body = paper_shape(rows, dataset)
        lines = [
            f"**{dataset}.** {caption}",
            "",
            "| " + " | ".join(name.replace("\n", " ") for name in header) + " |",
            "|:--" + "|--:" * (len(header) - 1) + "|",
        ]
        lines += ["| " + " | ".join(line) + " |" for line in body]
        parts.append("\n".join([*lines, "", *classifier_lines([r for r in rows if r.dataset == dataset])]))
    return "\n\n".join(parts) + "\n"


def classifier_lines(rows: Sequence[Row]) -> list[str]:
    """Tables 4 and 2 of one data set in a sentence each."""
    clean = {r.method: r.value for r in rows if r.table == "table4" and r.epsilon == 0}
    robust = {r.method: r.value for r in rows if r.table == "table4" and r.epsilon > 0}
    lines = [f"Clean accuracy: {_listed(clean)}."]
    attacked = [r for r in rows if r.table == "table2"]
    if attacked:
        epsilon = budget(attacked[0].epsilon)
        rejected = {r.method: r.value for r in attacked}
        lines += ["", f"Accuracy under PGD on the classifier, {epsilon}: {_listed(robust)}."]
        lines += ["", f"Images of that attack rejected as OOD (1 - FPR at 95 % TPR): {_listed(rejected)}."]
    return lines


def _listed(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in values.items())
