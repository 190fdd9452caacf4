"""Line styles: colour by objective, marker and dash by detector; safe for colour-blind readers."""

from collections.abc import Iterable
from itertools import chain, product
from typing import NamedTuple

from aloe_lightning.paper.methods import Method

COLOURS = {"original": "#777777", "oe": "#c44a00", "adv": "#e8b020", "aoe": "#56b4e9", "aloe": "#004f9e"}
FURTHER_COLOURS = ("#cc79a7", "#0b6e4f", "#1b1b1b")
LINES = {"msp": ("o", "-"), "odin": ("s", "--"), "mahalanobis": ("^", ":")}
FURTHER_LINES = tuple((marker, dash) for dash, marker in product(("-.", "--", ":", "-"), "Dv<>PX*hp"))


class Style(NamedTuple):
    """Arguments of a line of matplotlib."""

    color: str
    marker: str
    linestyle: str


def styles(methods: Iterable[Method]) -> dict[Method, Style]:
    """Give each method of a figure a unique style.

    Detectors of the paper keep their lines; other detectors, and nets that name their training budget, get further
    ones in turn, the same line for the same detector and budget on every objective.
    """
    ordered = sorted(set(methods))
    others = sorted({method.objective for method in ordered} - COLOURS.keys())
    colours = COLOURS | {name: FURTHER_COLOURS[k % len(FURTHER_COLOURS)] for k, name in enumerate(others)}
    lines: dict[tuple[str, float | None], tuple[str, str]] = {(key, None): line for key, line in LINES.items()}
    chosen: dict[Method, Style] = {}
    for method in ordered:
        key, colour = (method.detector, method.trained_at), colours[method.objective]
        if key not in lines:
            lines[key] = next((line for line in FURTHER_LINES if line not in lines.values()), FURTHER_LINES[0])
        candidates = chain([lines[key]], FURTHER_LINES, LINES.values())
        free = (style for line in candidates if (style := Style(colour, *line)) not in chosen.values())
        chosen[method] = next(free, Style(colour, *lines[key]))
    return chosen
