"""The report of an evaluation: one HTML page with the clean accuracy first, the table and histograms; CSV files."""

from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from aloe_lightning.evaluation.scores import Condition
from aloe_lightning.robustness.accuracy import accuracy_text
from aloe_lightning.robustness.result import HEADINGS, SIDE_HEADINGS, Result
from aloe_lightning.storage.files import atomic_write

COLOURS = ("#1f6fb4", "#d1495b", "#e08e45", "#6b4c9a", "#3a7d44", "#8a6d3b", "#7f7f7f")
BINS = 40


def write_report(result: Result, folder: Path) -> Path:
    """Write `report.html`, `table.csv` and `numbers.csv`, and return the path of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in (("table", result.table()), ("numbers", result.numbers)):
        with atomic_write(folder / f"{name}.csv") as part:
            frame.to_csv(part, index=name == "table")
    page = folder / "report.html"
    with atomic_write(page) as part:
        part.write_text(html_of(result))
    return page


def html_of(result: Result) -> str:
    """Return the page, which needs no other file."""
    style = files("aloe_lightning.report.renderers").joinpath("page.css").read_text()
    title = f"Does {result.settings['net']} survive?"
    accuracy = (
        "Clean accuracy: not known."
        if result.accuracy is None
        else accuracy_text(result.accuracy, result.labelled) + "."
    )
    settings = "".join(
        f"<tr><th>{escape(str(key))}</th><td>{escape(str(value))}</td></tr>" for key, value in result.settings.items()
    )
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="accuracy"><strong>{escape(accuracy[0].upper() + accuracy[1:])}</strong></p>',
        *(f'<p class="warning">{escape(note)}</p>' for note in result.notes),
        "<h2>Clean and attacked</h2>",
        f'<div class="wide">{_table(result)}</div>',
        f'<p class="caption">{escape(result.caption)} ± is half of the 95 % bootstrap interval over test images.</p>',
        "<h2>Scores</h2>",
        f"<figure>{_histograms(result)}<figcaption>Scores of ID and OOD images, clean above, attacked below; the line "
        "is the fixed threshold.</figcaption></figure>",
        f'<h2>Settings</h2><div class="wide"><table><tbody>{settings}</tbody></table></div>',
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _table(result: Result) -> str:
    numbers = result.numbers.set_index(["detector", "ood", "side", "metric"])
    spans = "".join(f'<th colspan="{len(HEADINGS)}">{SIDE_HEADINGS[side]}</th>' for side in result.sides)
    names = "".join(f"<th>{heading}</th>" for _ in result.sides for heading in HEADINGS.values())
    rows = []
    for detector, ood in dict.fromkeys(key[:2] for key in numbers.index):
        cells = []
        for side in result.sides:
            for metric in HEADINGS:
                row = numbers.loc[(detector, ood, side, metric)]
                cells.append(f"<td>{_cell(row)}</td>")
        rows.append(f"<tr><th>{escape(f'{detector}, {ood}')}</th>{''.join(cells)}</tr>")
    return (
        f"<table><thead><tr><th></th>{spans}</tr><tr><th></th>{names}</tr></thead>\n<tbody>\n"
        + "\n".join(rows)
        + "\n</tbody></table>"
    )


def _cell(row: "pd.Series[Any]") -> str:
    margin = "" if np.isnan(row.low) else f" <small>±{50 * (row.high - row.low):.2f}</small>"
    return f'<span class="value">{100 * row.value:.2f}</span>{margin}'


def _histograms(result: Result) -> str:
    from aloe_lightning.metrics import threshold_at_tpr
    from aloe_lightning.report.figures.files import Drawing, new_figure

    scores = result.scores
    conditions: list[Condition] = ["clean", *(["attacked"] if any(s != "none" for s in result.sides) else [])]  # type: ignore[list-item]
    figure = new_figure(4.2 * len(scores.detectors), 2.4 * len(conditions))
    axes = figure.subplots(len(conditions), len(scores.detectors), squeeze=False)
    for column, detector in enumerate(scores.detectors):
        shown = np.concatenate([values for key, values in scores.items() if key.detector == detector])
        edges = np.histogram_bin_edges(np.clip(shown, *np.percentile(shown, [0.5, 99.5])), BINS)
        for axis, condition in zip(axes[:, column], conditions, strict=True):
            for colour, name in zip([*COLOURS] * len(scores.ood_sets), ["id", *scores.ood_sets], strict=False):
                values = scores.get((detector, name, condition), scores[detector, name, "clean"])  # type: ignore[call-overload]
                clipped = np.clip(values, edges[0], edges[-1])
                weights = np.full(values.size, 1 / values.size)
                axis.hist(clipped, edges, weights=weights, color=colour, alpha=0.5, label=name)
            axis.axvline(threshold_at_tpr(scores[detector, "id", "clean"]), color="black", linewidth=0.8)
            axis.set_title(f"{detector}, {condition}", fontsize=10)
            axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].legend(frameon=False, fontsize=8)
    return Drawing("Scores", "", "robustness_scores", figure).svg()
