"""Colours: methods that differ for every reader, on both backgrounds; text with enough contrast."""

import re
from importlib.resources import files
from itertools import combinations

import numpy as np
import pytest

from aloe_lightning.paper.methods import PAPER_METHODS, Method
from aloe_lightning.report.figures.styles import DARK_COLOURS, ID_COLOUR, OOD_COLOUR, styles

VISION = {
    "normal": np.eye(3),
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881],
    ],
    "protanopia": [
        [0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900],
    ],
}  # fmt: skip
"""Linear RGB as readers see it (Machado, Oliveira and Fernandes 2009, severity 1)."""
TO_XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
OTHER_LINE = 30
"""Distance that another marker or dash adds; as far as two clearly different colours."""


def linear(colour):
    rgb = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(colour, vision):
    """CIELAB of an sRGB colour `#rrggbb`."""
    xyz = TO_XYZ @ np.clip(VISION[vision] @ linear(colour), 0, 1) / [0.95047, 1, 1.08883]
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def distance(first, second, vision):
    return np.linalg.norm(lab(first, vision) - lab(second, vision))


def contrast(first, second):
    """Contrast ratio of WCAG 2."""
    low, high = sorted(TO_XYZ[1] @ linear(colour) for colour in (first, second))
    return (high + 0.05) / (low + 0.05)


def themes():
    """Variables of the page's style: light, dark."""
    text = files("aloe_lightning.report.renderers").joinpath("page.css").read_text()
    blocks = re.findall(r":root \{([^}]*)\}", text)
    return [dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in blocks]


def test_the_measures_are_the_published_ones():
    assert lab("#ff0000", "normal") == pytest.approx([53.24, 80.09, 67.20], abs=0.02)
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    # Pairs that the deficiencies are known for: red and green; blue and green of one lightness.
    assert distance("#b03a2e", "#5f7300", "normal") > 60 > 25 > distance("#b03a2e", "#5f7300", "deuteranopia")
    assert distance("#1f8fb5", "#2f9a6a", "normal") > 30 > 20 > distance("#1f8fb5", "#2f9a6a", "tritanopia")


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("dark", [False, True])
def test_any_two_methods_differ_for_every_reader(vision, dark):
    """A distance of 2.3 in CIELAB is just noticeable."""
    further = [Method(objective, "msp", objective, "MSP") for objective in ("mine", "yours", "theirs")]
    energy = [Method(objective, "energy", objective, "Energy") for objective in ("original", "oe", "aloe")]
    chosen = styles([*(method for method in PAPER_METHODS if method.detector), *further, *energy])

    def apart(first, second):
        colours = [DARK_COLOURS[style.color] if dark else style.color for style in (first, second)]
        return distance(*colours, vision) + OTHER_LINE * (first[1:] != second[1:])

    distances = {(str(a), str(b)): apart(chosen[a], chosen[b]) for a, b in combinations(chosen, 2)}
    assert min(distances.values()) > 20, min(distances, key=distances.get)
    of_paper = {pair: value for pair, value in distances.items() if not {"mine", "yours", "theirs"} & set(pair)}
    assert min(of_paper.values()) >= 30, min(of_paper, key=of_paper.get)


@pytest.mark.parametrize("vision", VISION)
def test_the_two_sides_of_the_score_figure_differ(vision):
    for colours in ((ID_COLOUR, OOD_COLOUR), (DARK_COLOURS[ID_COLOUR], DARK_COLOURS[OOD_COLOUR])):
        assert distance(*colours, vision) > 30


def test_lines_and_text_have_enough_contrast_on_both_backgrounds():
    """WCAG 2 AA: 3 for graphics, 4.5 for text."""
    light, dark = themes()
    for colour, on_dark in DARK_COLOURS.items():
        assert contrast(colour, light["paper"]) >= 2.99, colour
        assert contrast(on_dark, dark["paper"]) >= 2.99, on_dark
    for theme in (light, dark):
        for text in ("ink", "muted", "accent"):
            for background in ("paper", "shade"):
                assert contrast(theme[text], theme[background]) >= 4.5, (text, background)
