"""Figures: no two methods in one style, colours that differ for every reader."""

from itertools import combinations

import numpy as np
import pytest
from synthetic_runs import DETECTORS, OBJECTIVES, TITLES, cell, write_run

from aloe_lightning.paper.methods import PAPER_METHODS, Method
from aloe_lightning.report.figures import (
    COLOURS,
    FURTHER_COLOURS,
    curves_figure,
    score_figure,
    shown_runs,
    styles,
)
from aloe_lightning.report.frame import records_frame, table_frame
from aloe_lightning.report.runs import collect

VISION = {
    "normal": np.eye(3),
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881],
    ],
    "protanopia": [
        [0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998],
    ],
}  # fmt: skip
"""Linear RGB as readers see it (Machado, Oliveira and Fernandes 2009, severity 1)."""


def lab(colour, vision):
    """CIELAB of an sRGB colour `#rrggbb`."""
    rgb = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    xyz = to_xyz @ np.clip(VISION[vision] @ linear, 0, 1) / [0.95047, 1, 1.08883]
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", VISION)
def test_colours_of_the_objectives_differ(vision):
    """A distance of 2.3 in CIELAB is just noticeable."""
    distances = {
        (first, second): np.linalg.norm(lab(COLOURS[first], vision) - lab(COLOURS[second], vision))
        for first, second in combinations(COLOURS, 2)
    }
    assert min(distances.values()) > 20, distances
    assert distances["oe", "aoe"] > 40


def test_no_two_methods_have_one_style():
    names = [*OBJECTIVES, "mine", "yours", "theirs", "fourth", "fifth"]
    detectors = {**DETECTORS, "odin_tuned": "ODIN (tuned)", **{f"d{k}": f"D{k}" for k in range(6)}}
    methods = [
        Method(objective, detector, TITLES.get(objective, objective), title, trained_at)
        for objective in names
        for detector, title in detectors.items()
        for trained_at in (None, 1.0, 2.0)
    ]
    chosen = styles(methods)
    of_paper = [chosen[method] for method in methods if method.objective in COLOURS]
    assert len(set(of_paper)) == len(of_paper)
    few = styles([method for method in methods if method.trained_at is None])
    assert len(set(few.values())) == len(few)
    assert len(FURTHER_COLOURS) < 5, "further objectives share colours here"


def test_odin_and_odin_tuned_differ_and_the_papers_lines_are_fixed():
    odin = Method("aloe", "odin", "ALOE", "ODIN")
    tuned = Method("aloe", "odin_tuned", "ALOE", "ODIN (tuned)")
    chosen = styles([odin, tuned])
    assert chosen[odin].color == chosen[tuned].color
    assert chosen[odin][1:] != chosen[tuned][1:]
    assert styles(PAPER_METHODS[:9])[odin] == chosen[odin]


def test_the_curves_show_each_method_with_its_clean_number(tmp_path):
    for number, (objective, epsilon) in enumerate((o, e) for o in OBJECTIVES for e in (1, 2)):
        detectors = ("msp", "odin", "odin_tuned")
        titles = {"msp": "MSP", "odin": "ODIN", "odin_tuned": "ODIN (tuned)"}
        run = cell(objective, eval_epsilon=epsilon)
        write_run(tmp_path / f"{objective}{epsilon}", run, number, detectors=detectors, titles=titles)
    frame = table_frame(records_frame(collect(tmp_path).groups))
    figure = curves_figure(frame)
    lines = figure.axes[0].get_lines()
    drawn = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in lines}
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:4] == ["MSP", "ODIN", "OE", "OE+ODIN"]
    assert len(drawn) == len(lines) == len(labels) == 5 * 3 - 2  # ADV+ODIN and AOE+ODIN are hidden
    assert all(list(line.get_xdata()) == [0, 1, 2] for line in lines)
    clean = frame[(frame.table == "table1") & (frame.metric == "auroc") & (frame.epsilon == 0)]
    assert [line.get_ydata()[0] for line in lines] == clean.value.tolist()


def test_one_budget_has_no_curves(tmp_path):
    write_run(tmp_path / "oe", cell("oe"))
    assert curves_figure(table_frame(records_frame(collect(tmp_path).groups))) is None


def test_figure_2_shows_oe_and_aloe_at_the_first_budget_and_seed(tmp_path):
    for objective, epsilon, seed in (("oe", 1, 0), ("aloe", 1, 1), ("aloe", 1, 0), ("aloe", 2, 0), ("adv", 1, 0)):
        run = cell(objective, eval_epsilon=epsilon, seed=seed)
        write_run(tmp_path / f"{objective}{epsilon}{seed}", run, 10 * epsilon + seed)
    (group,) = collect(tmp_path).groups.values()
    runs = shown_runs(group)
    assert [run.folder.name for run in runs] == ["oe10", "aloe10"]
    figure = score_figure(runs)
    titles = ["OE, clean", "OE, attacked (ε = 1/255)", "ALOE, clean", "ALOE, attacked (ε = 1/255)"]
    assert [axis.get_title() for axis in figure.axes] == titles
    heights = [patch.get_height() for patch in figure.axes[0].patches]
    assert sum(heights) == pytest.approx(2), "shares of in-distribution and OOD images"
