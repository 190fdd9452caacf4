"""Captions of the tables: data, counts, attack and conventions."""

from collections.abc import Iterable, Sequence

import pandas as pd

from aloe_lightning.paper.datasets import outliers_title
from aloe_lightning.report.runs import ComparableRuns

CLASSIFIER = "Attacked by PGD on the cross-entropy of the true class, in percent."
THRESHOLD = "The threshold has a TPR of 95 % on the clean images."
BOOTSTRAP = "half of the 95 % bootstrap interval over test images for one seed"
WILSON = "half of Wilson's 95 % interval for one seed"
SPREAD = "the standard deviation over seeds"
PAPER = "In parentheses, or below: the paper's number, and ours less the paper's."
ALGORITHMS = {"mahalanobis": "Mahalanobis: Algorithm 2", "pytorch_ood": "pytorch_ood: as its setting attack says"}
"""Detectors that are not attacked by Algorithm 1, by their key."""


def budget_text(epsilon: float) -> str:
    """Write the budget of an attack for headings; 0 is clean."""
    return "clean" if epsilon == 0 else f"ε = {epsilon:g}/255"


def table_caption(rows: pd.DataFrame, groups: Sequence[ComparableRuns]) -> str:
    """Return conventions, how to read a cell, and the data of each block.

    Args:
        rows: rows of one table, at least one.
        groups: runs of all data sets.
    """
    table, shown = rows.table.iloc[0], set(rows.dataset)
    groups = [group for group in groups if group.dataset in shown]
    if table in ("table2", "table4"):
        parts = [CLASSIFIER, *([THRESHOLD] if table == "table2" else [])]
    else:
        parts = _distinct(conventions(group) for group in groups)
    if table == "table3" and (names := trained_at_attack(rows)):
        parts.append(f"{names}: trained at the budget that attacks them.")
    parts += [_reading(rows), PAPER if rows.published.notna().any() else ""]
    datasets: dict[str, list[str]] = {}
    for group in groups:
        datasets.setdefault(data_of(group), []).append(group.dataset)
    parts += [f"{', '.join(names)}: {text}" for text, names in datasets.items()]
    return " ".join(filter(None, parts))


def trained_at_attack(rows: pd.DataFrame) -> str:
    """List the objectives of a frame whose nets are trained at the budget that attacks them."""
    nets = rows[rows.trained_at.notna() & rows.method.map(lambda method: method.trained_at is None)]
    return ", ".join(_distinct(method.objective_title for method in sorted(nets.method)))


def _reading(rows: pd.DataFrame) -> str:
    """Explain the plus-minus of a table, if it has one."""
    if rows.low.notna().any():
        return f"± is {WILSON if rows.table.iloc[0] == 'table4' else BOOTSTRAP}, {SPREAD} for several."
    return f"± is {SPREAD}." if rows["std"].notna().any() else ""


def data_of(group: ComparableRuns) -> str:
    """Describe net, outliers, images and seeds."""
    records, first = group.records, group[0].cell
    outliers = next((r.outliers for r in records if r.outliers), "")
    ood_sets = {r.ood: r.num_ood for r in records if r.ood}
    return (
        f"Net {first.net}, outliers {outliers_title(outliers, first.dataset)}; "
        f"{records[0].num_id} in-distribution {first.split} images, OOD test sets "
        + ", ".join(f"{name} ({count})" for name, count in ood_sets.items())
        + f"; seed {', '.join(map(str, sorted({r.seed for r in records})))}."
    )


def conventions(group: ComparableRuns) -> str:
    """Describe attack, means, thresholds and ties."""
    detectors = {key for run in group for key in run.detectors()}
    others = "; ".join(text for key, text in ALGORITHMS.items() if key in detectors)
    attacks = _distinct(f"{run.cell.regime} regime ({run.cell.attack})" for run in group)
    return (
        f"Attacked on both sides by Algorithm 1{f' ({others})' if others else ''}, {' or '.join(attacks)}; "
        "means over the OOD sets in percent. FPR95 at the threshold whose ID true positive rate is nearest to 95 %; "
        "ties count one half in AUROC."
    )


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))
