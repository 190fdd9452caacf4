"""The report of an evaluation: one HTML page with the clean accuracy first, the table and histograms; CSV files."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from aloe_lightning.evaluation.records import Side
from aloe_lightning.evaluation.scores import Condition, Scores
from aloe_lightning.report.renderers.html import document
from aloe_lightning.robustness.numbers import HEADINGS, SIDE_HEADINGS, headings_of
from aloe_lightning.robustness.passes import accuracy_text
from aloe_lightning.storage.files import atomic_write

COLOURS = ("#1f6fb4", "#d1495b", "#e08e45", "#6b4c9a", "#3a7d44", "#8a6d3b", "#7f7f7f")
BINS = 40


class Reported(Protocol):
    """The parts of a `Result` that the report shows."""

    @property
    def scores(self) -> Scores:
        """Scores of every image."""

    @property
    def accuracy(self) -> float | None:
        """Clean accuracy."""

    @property
    def labelled(self) -> int:
        """Number of images behind it."""

    @property
    def sides(self) -> Sequence[Side]:
        """Attacked sides."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings of the evaluation."""

    @property
    def notes(self) -> Sequence[str]:
        """Remarks."""

    @property
    def numbers(self) -> pd.DataFrame:
        """Every number with its interval."""

    @property
    def caption(self) -> str:
        """Threat model and conventions."""

    def table(self) -> pd.DataFrame:
        """Return the table in percent."""


def write_report(results: Mapping[str, Reported], folder: Path) -> Path:
    """Write `report.html`, `table.csv` and `numbers.csv` of one or several nets, and return the path of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = pd.concat({name: result.table() for name, result in results.items()}, names=["net"])
    numbers = pd.concat({name: result.numbers for name, result in results.items()}, names=["net", None])
    for name, frame in (("robustness_table", tables), ("robustness_numbers", numbers.droplevel(1))):
        with atomic_write(folder / f"{name}.csv") as part:
            frame.to_csv(part)
    page = folder / "robustness.html"
    with atomic_write(page) as part:
        part.write_text(html_of(results))
    return page


def html_of(results: Mapping[str, Reported]) -> str:
    """Return the page, which needs no other file."""
    title = f"Does {' or '.join(results)} survive?"
    parts = [f"<h1>{escape(title)}</h1>"]
    for name, result in results.items():
        parts.append(f'<p class="accuracy">{escape(name)}: <strong>{escape(_accuracy(result))}</strong></p>')
        parts += [f'<p class="warning">{escape(note)}</p>' for note in result.notes]
    parts += ["<h2>Clean and attacked</h2>", f'<div class="wide">{_table(results)}</div>']
    parts += [f'<p class="caption">{escape(result.caption)}</p>' for result in results.values()]
    parts.append('<p class="caption">± is half of the 95 % bootstrap interval over test images.</p>')
    for name, result in results.items():
        caption = "Scores, clean above, attacked below; the line is the fixed threshold."
        parts += [
            f"<h2>{escape(name)}</h2>",
            f"<figure>{_histograms(result, name)}<figcaption>{caption}</figcaption></figure>",
            *_details(result.settings),
        ]
    return document(title, "\n".join(parts))


def _details(settings: Mapping[str, Any]) -> list[str]:
    """Return the settings, and what each member of an ensemble found, folded."""
    members = settings.get("members") or {}
    rows = "".join(
        f"<tr><th>{escape(k)}</th><td>{escape(str(v))}</td></tr>" for k, v in settings.items() if k != "members"
    )
    parts = [f"<details><summary>Settings</summary><table><tbody>{rows}</tbody></table></details>"]
    if members:
        table = (100 * pd.DataFrame(members)).round(1).to_html(border=0, na_rep="")
        title = "Share of images that a member was the first to bring to their worst score, and flags, in percent"
        parts.append(f"<details><summary>{title}</summary>{table}</details>")
    return parts


def _accuracy(result: Reported) -> str:
    if result.accuracy is None:
        return "clean accuracy: not known"
    return accuracy_text(result.accuracy, result.labelled)


def _table(results: Mapping[str, Reported]) -> str:
    sides = next(iter(results.values())).sides
    merged = pd.concat([result.numbers for result in results.values()])
    columns = {side: headings_of(merged, side) for side in sides}
    spans = "".join(f'<th colspan="{len(columns[side])}">{SIDE_HEADINGS[side]}</th>' for side in sides)
    names = "".join(f"<th>{HEADINGS[metric]}</th>" for side in sides for metric in columns[side])
    rows = []
    for name, result in results.items():
        numbers = result.numbers.set_index(["detector", "ood", "side", "metric"])
        for detector, ood in dict.fromkeys(key[:2] for key in numbers.index):
            cells = [
                f"<td>{_cell(numbers, (detector, ood, side, metric))}</td>"
                for side in sides
                for metric in columns[side]
            ]
            label = ", ".join([*([name] if len(results) > 1 else []), detector, ood])
            rows.append(f"<tr><th>{escape(label)}</th>{''.join(cells)}</tr>")
    head = f"<table><thead><tr><th></th>{spans}</tr><tr><th></th>{names}</tr></thead>\n<tbody>\n"
    return head + "\n".join(rows) + "\n</tbody></table>"


def _cell(numbers: pd.DataFrame, key: tuple[str, str, str, str]) -> str:
    if key not in numbers.index:
        return "–"
    row = numbers.loc[key]
    margin = "" if np.isnan(row.low) else f" <small>±{50 * (row.high - row.low):.2f}</small>"
    return f'<span class="value">{100 * row.value:.2f}</span>{margin}'


def _histograms(result: Reported, name: str) -> str:
    from aloe_lightning.metrics import threshold_at_tpr
    from aloe_lightning.report.figures.files import Drawing, new_figure

    scores = result.scores
    conditions: list[Condition] = ["clean", *(["attacked"] if any(s != "none" for s in result.sides) else [])]  # type: ignore[list-item]
    figure = new_figure(4.2 * len(scores.detectors), 2.4 * len(conditions))
    axes = figure.subplots(len(conditions), len(scores.detectors), squeeze=False)
    for column, detector in enumerate(scores.detectors):
        shown = np.concatenate([v for key, v in scores.items() if key[0] == detector and key[2] in conditions])
        edges = np.histogram_bin_edges(np.clip(shown, *np.percentile(shown, [0.5, 99.5])), BINS)
        for axis, condition in zip(axes[:, column], conditions, strict=True):
            for colour, images in zip([*COLOURS] * len(scores.ood_sets), ["id", *scores.ood_sets], strict=False):
                values = scores.get((detector, images, condition), scores[detector, images, "clean"])  # type: ignore[call-overload]
                clipped = np.clip(values, edges[0], edges[-1])
                weights = np.full(values.size, 1 / values.size)
                axis.hist(clipped, edges, weights=weights, color=colour, alpha=0.5, label=images)
            axis.axvline(threshold_at_tpr(scores[detector, "id", "clean"]), color="black", linewidth=0.8)
            axis.set_title(f"{detector}, {condition}", fontsize=10)
            axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].legend(frameon=False, fontsize=8)
    return Drawing("Scores", "", f"robustness-{name}", figure).scrolling()
