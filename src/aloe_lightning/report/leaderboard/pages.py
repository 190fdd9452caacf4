"""Entries of a folder ranked as Markdown, HTML and CSV, those of different threat models apart."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from aloe_lightning.errors import UserError
from aloe_lightning.report.leaderboard.entry import Entry
from aloe_lightning.report.renderers.html import document
from aloe_lightning.storage.files import atomic_write

COLUMNS = {
    "clean AUROC": ("auroc", "none"),
    "AUROC": ("auroc", "both"),
    "FPR95": ("fpr95", "both"),
    "TPR, fixed threshold": ("tpr_fixed", "both"),
    "FPR, fixed threshold": ("fpr_fixed", "both"),
    "GAUROC": ("gauroc", "both"),
}
TITLE = "Leaderboard of robust detectors"


class Section(NamedTuple):
    """Entries that may be compared: a title, the conditions in sentences, and a row for each net and detector."""

    title: str
    conditions: Sequence[str]
    table: pd.DataFrame


def write_leaderboard(folder: Path, out: Path) -> list[Path]:
    """Rank all entries under a folder, write `leaderboard.html`, `.md` and `.csv` to `out`, and return their paths.

    Raises:
        UserError: if there is no entry that can be ranked.
    """
    entries, refused = entries_of(folder)
    if not entries:
        reasons = "".join(f"\n  {reason}" for reason in refused)
        raise UserError(f"no leaderboard entries under {folder.absolute()}{reasons}")
    sections = ranked(entries)
    out.mkdir(parents=True, exist_ok=True)
    flat = pd.concat([section.table.assign(setting=section.title) for section in sections])
    texts = {
        "html": _html(sections, refused),
        "md": _markdown(sections, refused),
        "csv": flat.to_csv(index=False, float_format="%.2f", lineterminator="\n"),
    }
    for suffix, text in texts.items():
        with atomic_write(out / f"leaderboard.{suffix}") as part:
            part.write_text(text)
    return [out / f"leaderboard.{suffix}" for suffix in texts]


def entries_of(folder: Path) -> tuple[list[Entry], list[str]]:
    """Return the entries among the JSON files under a folder, each once, and the reasons why others were refused."""
    entries: dict[str, Entry] = {}
    refused = []
    for path in sorted(folder.rglob("*.json")):
        try:
            entry = Entry.read(path)
        except UserError as error:
            refused.append(str(error))
            continue
        if entry is not None:
            entries.setdefault(repr(entry), entry)  # a copy of an entry is no second one
    return list(entries.values()), refused


def ranked(entries: Sequence[Entry]) -> list[Section]:
    """Rank the detectors of entries of the same setting by AUROC with both sides attacked; the largest group first."""
    groups: dict[tuple[object, ...], list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.setting, []).append(entry)
    ordered = sorted(groups.values(), key=lambda group: (-len(group), group[0].norm, group[0].epsilon))
    return [_section(number, group) for number, group in enumerate(ordered, 1)]


def _section(number: int, group: Sequence[Entry]) -> Section:
    first = group[0]
    rows = [
        {
            "net": entry.net,
            "detector": detector,
            "attack": kind,
            **{heading: _percent(entry, detector, *place) for heading, place in COLUMNS.items()},
            "±": _margin(entry, detector),
            "clean accuracy": float("nan") if entry.accuracy is None else 100 * entry.accuracy,
            "flags": len(entry.flags.get(detector, ())),
            "seed": entry.seed,
            "weights": entry.weights[:8],
        }
        for entry in group
        for detector, kind in entry.kinds.items()
    ]
    table = pd.DataFrame(rows).sort_values(["AUROC", "net", "detector"], ascending=[False, True, True])
    table = table.dropna(axis=1, how="all")
    # Equal numbers share a rank.
    table.insert(0, "rank", table["AUROC"].rank(method="min", ascending=False).astype(int))
    if "±" in table:
        table.insert(table.columns.get_loc("AUROC") + 1, "±", table.pop("±"))
    name = "Linf" if first.norm == "linf" else "L2"
    images = ", ".join(f"{images} ({count})" for images, count in first.counts.items())
    conditions = [
        f"Attack: {first.attack}.",
        f"Images of {first.size} pixels: {images}; SHA-256 of id {first.data['id'][:16]}.",
        "AUROC and what follows: both sides attacked, mean over the OOD sets, in percent; ± is half of the 95 % "
        "interval over test images. GAUROC: no attack brings the AUROC below it.",
        "; ".join(f"{key}: {rule}" for key, rule in first.conventions.items()) + ".",
    ]
    return Section(f"{number}. {name}, epsilon {first.epsilon:g}/255", conditions, table.reset_index(drop=True))


def _percent(entry: Entry, detector: str, metric: str, side: str) -> float:
    number = entry.number(detector, metric, side)
    return float("nan") if number is None else 100 * float(number["value"])


def _margin(entry: Entry, detector: str) -> float:
    number = entry.number(detector, "auroc", "both")
    if number is None or number["low"] is None or number["high"] is None:
        return float("nan")
    return 50 * (float(number["high"]) - float(number["low"]))


def _texts(table: pd.DataFrame) -> list[list[str]]:
    return [
        [("–" if v != v else f"{v:.2f}") if isinstance(v, float) else str(v) for v in row]
        for row in table.itertuples(index=False)
    ]


def _markdown(sections: Sequence[Section], refused: Sequence[str]) -> str:
    parts = [f"# {TITLE}", ""]
    for section in sections:
        rows = [list(section.table), ["--:"] * len(section.table.columns), *_texts(section.table)]
        cells = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows]
        parts += [f"## {section.title}", "", *(f"| {line} |" for line in cells), ""]
        parts += [*section.conditions, ""]
    if refused:
        parts += ["## Refused", "", *(f"- {reason}" for reason in refused), ""]
    return "\n".join(parts)


def _html(sections: Sequence[Section], refused: Sequence[str]) -> str:
    parts = [f"<h1>{TITLE}</h1>"]
    for section in sections:
        heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in section.table)
        rows = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in _texts(section.table)]
        body = "\n".join(f"<tr>{row}</tr>" for row in rows)
        table = f"<table><thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"
        parts += [f"<h2>{escape(section.title)}</h2>", f'<div class="wide">{table}</div>']
        parts += [f'<p class="caption">{escape(condition)}</p>' for condition in section.conditions]
    if refused:
        parts += ["<h2>Refused</h2>", "<ul>", *(f"<li>{escape(reason)}</li>" for reason in refused), "</ul>"]
    return document(TITLE, "\n".join(parts))
