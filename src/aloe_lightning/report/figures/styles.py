"""Colours, markers and dashes of the methods, distinct for readers with any colour vision and on both backgrounds."""

from collections.abc import Iterable
from itertools import chain, product
from typing import NamedTuple

from aloe_lightning.paper.methods import Method

COLOURS = {"original": "#67415a", "oe": "#8d1200", "adv": "#c88600", "aoe": "#1891ff", "aloe": "#0b1bbc"}
FURTHER_COLOURS = ("#f15aa9", "#36804b", "#1b1b1b")
ID_COLOUR, OOD_COLOUR = "#1f6fb4", "#d1495b"
DARK_COLOURS = {
    **dict(zip(COLOURS.values(), ("#a7c2a6", "#d14925", "#ffc818", "#47dafd", "#2e4eff"), strict=True)),
    **dict(zip(FURTHER_COLOURS, ("#e459b3", "#5db661", "#f5f5f5"), strict=True)),
    **{ID_COLOUR: "#5aa9ea", OOD_COLOUR: "#ef7386"},
}
"""The colour on a dark background of each colour on a white one.

The colours were searched for at random: contrast with the background of 3 at least, and the greatest least distance in
CIELAB for normal vision, protanopia, deuteranopia and tritanopia.
"""
LINES = {"msp": ("o", "-"), "odin": ("s", "--"), "mahalanobis": ("^", ":")}
FURTHER_LINES = tuple((marker, dash) for dash, marker in product(("-.", "--", ":", "-"), "Dv<>PX*hp"))


class Style(NamedTuple):
    """Arguments of a line of matplotlib."""

    color: str
    marker: str
    linestyle: str


def styles(methods: Iterable[Method]) -> dict[Method, Style]:
    """Give each method of a figure a unique style: colour by objective, marker and dash by detector.

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
