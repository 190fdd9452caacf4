"""Notes of the report: order of the methods compared with the paper, missing cells, trainings, machines."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from aloe_lightning.paper.datasets import DATASET_TITLES, dataset_order, dataset_title
from aloe_lightning.paper.methods import PAPER_METHODS
from aloe_lightning.paper.published import published_rows
from aloe_lightning.report.captions import budget_text
from aloe_lightning.report.runs import Collection, Run

RANKS = "Spearman's rank correlation of AUROC with the paper's, and both orders:"


def notes_of(collection: Collection, frame: pd.DataFrame) -> dict[str, Sequence[str]]:
    """Return the lines of each note by its heading; headings without lines are omitted."""
    orders = method_orders(frame)
    notes = {
        "Order of methods": [RANKS, *orders] if orders else [],
        "Missing": missing_cells(frame),
        "Left out": [f"different protocol, detector settings or images: {path}" for path in collection.left_out],
        "Not read": [f"records of another version, or without scores: {path}" for path in collection.unreadable],
        "Trained on": list(dict.fromkeys(line for run in collection.runs for line in training_of(run))),
        "Made by": sorted({line for run in collection.runs for line in machine_of(run)}),
    }
    return {title: lines for title, lines in notes.items() if lines}


def method_orders(frame: pd.DataFrame) -> list[str]:
    """Compare the order of the methods by AUROC with the paper's.

    Returns:
        A line for each data set and budget with three published methods or more: Spearman's rank correlation (1 for
        the same order, -1 for the reverse) and both orders.
    """
    from scipy.stats import spearmanr

    lines = []
    compared = frame[(frame.metric == "auroc") & frame.published.notna()]
    for dataset in sorted(set(compared.dataset), key=dataset_order):
        for epsilon, rows in compared[compared.dataset == dataset].groupby("epsilon"):
            if len(rows) < 3:
                continue
            ours, paper = (
                " > ".join(map(str, rows.sort_values(name, ascending=False, kind="stable").method))
                for name in ("value", "published")
            )
            correlation = float(spearmanr(rows.value, rows.published).statistic)
            lines.append(f"{dataset}, {budget_text(epsilon)}: {correlation:.2f}; ours {ours}; the paper's {paper}")
    return lines


def missing_cells(frame: pd.DataFrame) -> list[str]:
    """List the published numbers that have no counterpart, a line for each table, data set and methods.

    Without a data set of the paper: list the numbers that a method lacks and other methods of the data set have.
    """
    if set(frame.dataset) & set(DATASET_TITLES.values()):
        present = _places(frame[frame.published.notna()])
        expected = {row[:4] for row in published_rows()}
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
        f"{table.replace('table', 'Table ')}, {dataset}, {', '.join(map(budget_text, epsilons))}: "
        + ", ".join(sorted(names, key=lambda name: order[table == "table4", name]))
        for (table, (_, dataset), epsilons), names in sorted(lines.items())
    ]


def _places(rows: pd.DataFrame) -> set[tuple[str, str, str, float]]:
    return {(row.table, row.dataset, row.method.name, row.epsilon) for row in rows.itertuples()}


def training_of(run: Run) -> list[str]:
    """Return a line about the training of a run's net, if its folder has the facts."""
    config, sizes = _read(run.folder / "config.json"), _read(run.folder / "data.json")
    if not config or not sizes.get("train"):
        return []
    trainer, batch = config["trainer"], config["batch"]
    length = f"{trainer['max_steps']} steps" if trainer["max_steps"] > 0 else f"{trainer['max_epochs']} epochs"
    images, outliers_in_batch = f"{sizes['train']} images", ""
    if sizes.get("outliers"):
        images, outliers_in_batch = f"{images} and {sizes['outliers']} outliers", f" + {batch['outliers']}"
    title = f"{dataset_title(run.cell.dataset)}, {run.cell.objective_title}"
    return [f"{title}: {images}, {length} of {batch['inliers']}{outliers_in_batch}"]


def machine_of(run: Run) -> list[str]:
    """Return a line about the machine and packages of a run, if its folder has the facts."""
    facts = _read(run.folder / "versions.json")
    if not facts:
        return []
    packages = ", ".join(f"{name} {version}" for name, version in facts.get("packages", {}).items())
    return [f"{facts.get('platform')}, {facts.get('device')}, Python {facts.get('python')}: {packages}"]


def _read(file: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return facts
