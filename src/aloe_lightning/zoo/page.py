"""The table of the zoo from its cards, as Markdown and as HTML."""

import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from aloe_lightning.errors import UserError
from aloe_lightning.signatures.description import describe
from aloe_lightning.storage.files import atomic_write
from aloe_lightning.storage.zoo import zoo_card, zoo_names

BEGIN, END = "<!-- begin: python -m aloe_lightning.zoo page -->", "<!-- end -->"
HEADINGS = ("net", "epochs", "accuracy", "clean AUROC", "AUROC, paper", "AUROC, strong", "images")


def rows() -> list[list[str]]:
    """Return a row of `HEADINGS` for each net: numbers of MSP in percent, with 95 % intervals."""
    return [_row(zoo_card(name)) for name in zoo_names()]


def _row(card: Mapping[str, Any]) -> list[str]:
    training, evaluation = card["training"], card["evaluation"]
    first = evaluation.get("paper") or next(iter(evaluation.values()))
    detection = {regime: numbers["detectors"]["msp"] for regime, numbers in evaluation.items()}
    attacked = [
        _interval(detection[regime]["attacked"]["auroc"]) if regime in detection else "–"
        for regime in ("paper", "strong")
    ]
    return [
        card["name"],
        f"{training['epochs']:.0f}" if training["epochs"] >= 10 else f"{training['epochs']:g}",
        _interval(first["accuracy"].get("clean")),
        _interval(next(iter(detection.values()))["clean"]["auroc"]),
        *attacked,
        f"{first['num_id']:,} + {sum(first['num_ood'].values()):,}",
    ]


def _interval(number: list[float] | None) -> str:
    if number is None:
        return "–"
    value, low, high = (100 * part for part in number)
    return f"{value:.2f} [{low:.1f}, {high:.1f}]"


def note() -> str:
    """Return the sentence that names the version of the attack in the column `strong`, and the present version."""
    attacks = [zoo_card(name)["evaluation"].get("strong", {}).get("attack", "") for name in zoo_names()]
    found = [re.match(r"strong version (\d+)", attack) for attack in attacks if attack]
    versions = sorted({int(match[1]) if match else 1 for match in found})  # the first one did not state its version
    present = describe("aloe_lightning.attacks.Strong").constants["version"]
    measured = " and ".join(map(str, versions)) or "none"
    return f"`AUROC, strong`: measured with version {measured} of `attack=strong`, which is now at version {present}."


def markdown() -> str:
    """Return the table as Markdown, and the note."""
    lines = [HEADINGS, [":--", *["--:"] * (len(HEADINGS) - 1)], *rows()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{note()}"


def html() -> str:
    """Return the table as a page."""
    from aloe_lightning.report.renderers.html import document

    head = "".join(f"<th>{escape(text)}</th>" for text in HEADINGS)
    lines = [
        f"<tr><th scope='row'>{escape(name)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
        for name, *cells in rows()
    ]
    body = "\n".join(lines)
    caption = (
        "MSP, in percent, with 95 % intervals over the test images; AUROC is the mean over the OOD sets, and both "
        "sides are attacked. The cards have training details, digests and metrics."
    )
    table = f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"
    parts = [
        "<h1>The zoo</h1>",
        f"<p>{caption}</p>",
        f'<div class="wide">{table}</div>',
        f"<p>{escape(note().replace('`', ''))}</p>",
    ]
    return document("The zoo of aloe_lightning", "\n".join(parts))


def write(path: Path) -> Path:
    """Write the page: HTML for `.html`; in a Markdown page the text between the two markers is replaced.

    Raises:
        UserError: if an existing Markdown page has no markers.
    """
    if path.suffix == ".html":
        text = html()
    else:
        old = path.read_text() if path.is_file() else f"# The zoo\n\n{BEGIN}\n{END}\n"
        if BEGIN not in old or END not in old.partition(BEGIN)[2]:
            raise UserError(f"{path.absolute()} has no line {BEGIN!r} with a line {END!r} below: add them")
        before, _, rest = old.partition(BEGIN)
        text = f"{before}{BEGIN}\n{markdown()}\n{END}{rest.partition(END)[2]}"
    with atomic_write(path) as part:
        part.write_text(text)
    return path
