"""Texts of the report: captions of the tables, and notes.

A caption states data, counts, attack and conventions. The notes compare the order of the methods with the paper's, and
list missing cells, trainings and machines.
"""

from collections.abc import Iterable, Sequence

import pandas as pd

from aloe_lightning.paper.datasets import DATASET_TITLES, dataset_order, dataset_title, in_paper, outliers_title
from aloe_lightning.paper.methods import PAPER_METHODS
from aloe_lightning.paper.published import published_numbers
from aloe_lightning.report.frame import attacked_as_trained
from aloe_lightning.report.runs import Collection, Groups, Run
from aloe_lightning.storage.cells import facts_of
from aloe_lightning.storage.files import read_json

CLASSIFIER = "Attacked by PGD on the cross-entropy of the true class, in percent."
THRESHOLD = "The threshold has a TPR of 95 % on the clean images."
BOOTSTRAP = "half of the 95 % bootstrap interval over test images for one seed"
WILSON = "half of Wilson's 95 % interval for one seed"
SPREAD = "the standard deviation over seeds"
PAPER = "In parentheses, or below: the paper's number, and ours less the paper's."
RANKS = "Spearman's rank correlation of AUROC with the paper's, and both orders:"
LABELS = {
    "table1": "Detection", "table2": "Rejected images", "table3": "Larger budgets", "table4": "Accuracy",
}  # fmt: skip
"""Short titles of the tables for data sets that the paper has not."""
ALGORITHMS = {"mahalanobis": "Mahalanobis: Algorithm 2", "pytorch_ood": "pytorch_ood: as its setting attack says"}
"""Detectors that are not attacked by Algorithm 1, by their key."""


def budget_text(epsilon: float) -> str:
    """Write the budget of an attack for headings; 0 is clean."""
    return "clean" if epsilon == 0 else f"ε = {epsilon:g}/255"


def table_label(table: str, dataset: str) -> str:
    """Return the short title of a table: its number in the paper for the paper's data sets."""
    return table.replace("table", "Table ") if in_paper(dataset) else LABELS[table]


def table_caption(rows: pd.DataFrame, groups: Groups) -> str:
    """Return conventions, how to read a cell, and the data of each block, for the rows of one table."""
    table = rows.table.iloc[0]
    shown = {dataset: runs for dataset, runs in groups.items() if dataset in set(rows.dataset)}
    if table in ("table2", "table4"):
        parts = [CLASSIFIER, THRESHOLD if table == "table2" else ""]
    else:
        parts = _distinct(_conventions(runs) for runs in shown.values())
    if table == "table3" and (names := objectives_attacked_as_trained(rows)):
        parts.append(f"{names}: trained at the budget that attacks them.")
    if rows.low.notna().any():
        parts.append(f"± is {WILSON if table == 'table4' else BOOTSTRAP}, {SPREAD} for several.")
    elif rows["std"].notna().any():
        parts.append(f"± is {SPREAD}.")
    parts.append(PAPER if rows.published.notna().any() else "")
    datasets: dict[str, list[str]] = {}
    for dataset, runs in shown.items():
        datasets.setdefault(_data_of(runs), []).append(dataset)
    parts += [f"{', '.join(names)}: {text}" for text, names in datasets.items()]
    return " ".join(filter(None, parts))


def objectives_attacked_as_trained(rows: pd.DataFrame) -> str:
    """List the objectives whose nets are trained at the budget that attacks them."""
    return ", ".join(_distinct(method.objective_title for method in sorted(rows[attacked_as_trained(rows)].method)))


def _data_of(runs: Sequence[Run]) -> str:
    """Describe net, outliers, images and seeds."""
    records, first = [r for run in runs for r in run.records], runs[0].cell
    outliers = next((r.outliers for r in records if r.outliers), "")
    ood_sets = {r.ood: r.num_ood for r in records if r.ood}
    seeds: dict[str, set[int]] = {}
    for run in runs:
        seeds.setdefault(run.weights, set()).add(run.cell.seed)
    one_net = any(len(found) > 1 for weights, found in seeds.items() if weights)
    return (
        f"Net {first.net}, outliers {outliers_title(outliers, first.dataset)}; "
        f"{records[0].num_id} in-distribution {first.split} images, OOD test sets "
        + ", ".join(f"{name} ({count})" for name, count in ood_sets.items())
        + f"; seed {', '.join(map(str, sorted({r.seed for r in records})))}"
        + (" of the attack on the same weights, not of the training." if one_net else ".")
    )


def _conventions(runs: Sequence[Run]) -> str:
    """Describe attack, means, thresholds and ties."""
    detectors = {key for run in runs for key in run.detectors()}
    others = "; ".join(text for key, text in ALGORITHMS.items() if key in detectors)
    attacks = _distinct(f"{run.cell.regime} regime ({run.cell.attack})" for run in runs)
    return (
        f"Attacked on both sides by Algorithm 1{f' ({others})' if others else ''}, {' or '.join(attacks)}; "
        "means over the OOD sets in percent. FPR95 at the threshold whose ID true positive rate is nearest to 95 %; "
        "ties count one half in AUROC."
    )


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def notes_of(collection: Collection, frame: pd.DataFrame) -> dict[str, Sequence[str]]:
    """Return the lines of each note by its heading; headings without lines are omitted."""
    orders = method_orders(frame)
    notes = {
        "Order of methods": [RANKS, *orders] if orders else [],
        "Missing": missing_cells(frame),
        "Left out": [f"different protocol, detector settings or images: {path}" for path in collection.left_out],
        "Not read": [f"records of another version, or without scores: {path}" for path in collection.unreadable],
        "Trained on": list(dict.fromkeys(filter(None, map(_training_of, collection.runs)))),
        "Made by": sorted(set(filter(None, map(_machine_of, collection.runs)))),
    }
    return {title: lines for title, lines in notes.items() if lines}


def method_orders(frame: pd.DataFrame) -> list[str]:
    """Compare the order of the methods by AUROC with the paper's.

    Returns:
        A line for each data set and budget with three published methods or more: Spearman's rank correlation (1 for
        the same order, -1 for the reverse) and both orders.
    """
    lines = []
    compared = frame[(frame.metric == "auroc") & frame.published.notna()]
    for (dataset, epsilon), rows in sorted(
        compared.groupby(["dataset", "epsilon"]), key=lambda place: (dataset_order(place[0][0]), place[0][1])
    ):
        if len(rows) >= 3:
            ours, paper = (
                " > ".join(map(str, rows.sort_values(name, ascending=False, kind="stable").method))
                for name in ("value", "published")
            )
            correlation = rows.value.corr(rows.published, method="spearman")
            lines.append(f"{dataset}, {budget_text(epsilon)}: {correlation:.2f}; ours {ours}; the paper's {paper}")
    return lines


def missing_cells(frame: pd.DataFrame) -> list[str]:
    """List the published numbers that have no counterpart, a line for each table, data set and methods.

    Without a data set of the paper: list the numbers that a method lacks and other methods of the data set have.
    """
    if set(frame.dataset) & set(DATASET_TITLES.values()):
        present = _places(frame[frame.published.notna()])
        expected = {place[:4] for place in published_numbers()}
    else:
        # A net that is evaluated at budgets other than its training budget has a separate row, without counterparts.
        swept = {method.objective for method in frame.method if method.trained_at is not None}
        present = _places(frame[~frame.method.map(lambda method: method.objective in swept)])
        places = _places(frame[(frame.table != "table3") | (frame.epsilon > 0)])
        expected = {
            (table, dataset, method, epsilon)
            for table, dataset, _, epsilon in places
            for known, of_set, method, _ in present
            if of_set == dataset and (known == "table4") == (table == "table4")
        }
    order = {(method.detector == "", method.name): method for method in (*PAPER_METHODS, *frame.method)}
    gaps: dict[tuple[str, str, str], list[float]] = {}
    for table, dataset, name, epsilon in sorted(expected - present):
        gaps.setdefault((table, dataset, name), []).append(epsilon)
    lines: dict[tuple[str, tuple[int, str], tuple[float, ...]], list[str]] = {}
    for (table, dataset, name), epsilons in gaps.items():
        lines.setdefault((table, dataset_order(dataset), tuple(epsilons)), []).append(name)
    return [
        f"{table_label(table, dataset)}, {dataset}, {', '.join(map(budget_text, epsilons))}: "
        + ", ".join(sorted(names, key=lambda name: order[table == "table4", name]))
        for (table, (_, dataset), epsilons), names in sorted(lines.items())
    ]


def _places(rows: pd.DataFrame) -> set[tuple[str, str, str, float]]:
    return {(row.table, row.dataset, row.method.name, row.epsilon) for row in rows.itertuples()}


def _training_of(run: Run) -> str:
    """Describe the training of a run's net; "" if its folder lacks the facts."""
    config, sizes = read_json(run.folder / "config.json"), read_json(run.folder / "data.json")
    if not config or not sizes.get("train"):
        return ""
    trainer, batch = config["trainer"], config["batch"]
    length = f"{trainer['max_steps']} steps" if trainer["max_steps"] > 0 else f"{trainer['max_epochs']} epochs"
    images, outliers_in_batch = f"{sizes['train']} images", ""
    if sizes.get("outliers"):
        images, outliers_in_batch = f"{images} and {sizes['outliers']} outliers", f" + {batch['outliers']}"
    title = f"{dataset_title(run.cell.dataset)}, {run.cell.objective_title}"
    return f"{title}: {images}, {length} of {batch['inliers']}{outliers_in_batch}"


def _machine_of(run: Run) -> str:
    """Describe the machine and packages of a run; "" if its folder lacks the facts."""
    if not (facts := facts_of(run.folder)):
        return ""
    packages = ", ".join(f"{name} {version}" for name, version in facts.get("packages", {}).items())
    machine = [facts.get("platform"), facts.get("processor"), facts.get("device")]
    uses = {"trained": facts.get("train_precision"), "evaluated": facts.get("precision")}
    machine += [f"{use} in {precision}" for use, precision in uses.items() if precision]
    return f"{', '.join(filter(None, machine))}, Python {facts.get('python')}: {packages}"
