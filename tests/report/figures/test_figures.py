"""Figures: no two methods in one style, and the numbers that are drawn."""

import re

import numpy as np
import pytest
from synthetic_runs import DETECTORS, OBJECTIVES, TITLES, cell, write_run

from aloe_lightning.metrics import auroc, threshold_at_tpr
from aloe_lightning.paper.methods import PAPER_METHODS, Method
from aloe_lightning.report.figures.budgets import curves_figure
from aloe_lightning.report.figures.changes import change_figure, rank_figure
from aloe_lightning.report.figures.files import ON_A_PHONE, Drawing, new_figure
from aloe_lightning.report.figures.scores import mean_roc, roc_figure, score_figure, shown_scores
from aloe_lightning.report.figures.styles import COLOURS, DARK_COLOURS, FURTHER_COLOURS, styles
from aloe_lightning.report.frame import records_frame, table_frame
from aloe_lightning.report.runs import collect
from aloe_lightning.report.verdict import verdicts_of


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


def test_the_score_figure_shows_each_detector_on_oe_and_aloe_else_on_the_first_objective(tmp_path):
    for objective, epsilon, seed in (("original", 1, 0), ("oe", 1, 0), ("aloe", 1, 1), ("aloe", 1, 0), ("aloe", 2, 0)):
        run = cell(objective, eval_epsilon=epsilon, seed=seed)
        write_run(tmp_path / f"{objective}{epsilon}{seed}", run, 10 * epsilon + seed)
    (group,) = collect(tmp_path).groups.values()
    rows = shown_scores(group)
    assert [(row.run.folder.name, row.title) for row in rows] == [
        ("oe10", "MSP"), ("aloe10", "MSP"), ("oe10", "ODIN"), ("aloe10", "ODIN"), ("original10", "Mahalanobis"),
    ]  # fmt: skip
    axes = np.reshape(score_figure(rows).axes, (5, 2))
    assert [axis.get_title() for axis in axes[1]] == ["ALOE, MSP\nclean", "ALOE, MSP\nattacked, ε = 1/255"]
    shares = [patch.get_data().values.sum() for patch in axes[0, 0].patches]
    assert shares == pytest.approx([1, 1]), "of in-distribution and of OOD images"
    for pair, row in zip(axes, rows, strict=True):
        scores = row.run.scores()
        clean, attacked = (threshold_at_tpr(scores[row.detector, "id", c]) for c in ("clean", "attacked"))
        for axis, thresholds in zip(pair, ([clean], [attacked, clean]), strict=True):
            low, *_, high = axis.patches[0].get_data().edges
            lines = [line.get_xdata()[0] for line in axis.get_lines()]
            assert lines == pytest.approx(np.clip(thresholds, low, high))
    for first, second in ((0, 1), (2, 3)):
        of_detector = axes[[first, second]].ravel()
        assert len({(axis.get_xlim(), axis.get_ylim()) for axis in of_detector}) == 1, "shared axes"


def test_the_mean_roc_is_scikit_learns_and_its_area_the_mean_auroc():
    from sklearn.metrics import roc_curve

    rng = np.random.default_rng(0)
    id_scores = rng.integers(0, 12, 60).astype(float)  # with ties
    ood = {"a": rng.integers(-3, 9, 40).astype(float), "b": rng.integers(0, 14, 70).astype(float)}
    false, true = mean_roc(id_scores, ood)
    assert np.trapezoid(true, false) == pytest.approx(np.mean([auroc(id_scores, scores) for scores in ood.values()]))
    labels, scores = np.repeat([1, 0], [60, 40]), np.concatenate([id_scores, ood["a"]])
    expected = roc_curve(labels, scores, drop_intermediate=False)
    assert mean_roc(id_scores, {"a": ood["a"]}) == (pytest.approx(expected[0]), pytest.approx(expected[1]))


def test_the_roc_figure_has_a_curve_for_each_method_and_condition(tmp_path):
    for number, objective in enumerate(("oe", "aloe")):
        write_run(tmp_path / objective, cell(objective), number)
    collection = collect(tmp_path)
    (group,) = collection.groups.values()
    runs = {run.cell.objective: run for run in group}
    methods = {m: runs[m.objective] for m in PAPER_METHODS if m.objective in runs and m.detector}
    figure = roc_figure(methods)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["OE", "OE+ODIN", "ALOE", "ALOE+ODIN"]
    for axis, condition in zip(figure.axes, ("clean", "attacked"), strict=True):
        scores = runs["aloe"].scores()
        by_set = {name: scores["odin", name, condition] for name in scores.ood_sets}
        (line,) = (line for line in axis.get_lines() if line.get_label() == "ALOE+ODIN")
        area = np.trapezoid(line.get_ydata(), line.get_xdata()) / 1e4
        assert area == pytest.approx(np.mean([auroc(scores["odin", "id", condition], s) for s in by_set.values()]))


def test_the_chart_goes_from_clean_to_attacked_and_the_ranks_are_drawn(tmp_path):
    for number, objective in enumerate(OBJECTIVES):
        write_run(tmp_path / objective, cell(objective), number)
    frame = table_frame(records_frame(collect(tmp_path).groups))
    (verdict,) = verdicts_of(frame)
    (axis,) = change_figure([verdict]).axes
    points = [line.get_xdata()[0] for line in axis.get_lines() if line.get_marker() == "o"]
    expected = frame[(frame.table == "table1") & (frame.metric == "auroc")].sort_values(["method", "epsilon"])
    assert points == expected.value.tolist()
    assert [text.get_text() for text in axis.get_yticklabels()] == list(dict.fromkeys(map(str, expected.method)))
    (axis,) = rank_figure([verdict]).axes
    for k, epsilon in enumerate((0, 1)):
        best_first = expected[expected.epsilon == epsilon].sort_values("value", ascending=False).method
        drawn = [line.get_ydata()[k] for line in axis.get_lines()]
        assert [sorted(best_first)[place] for place in np.argsort(drawn)] == list(best_first)


def test_a_figure_of_a_page_has_no_background_and_colours_that_the_page_can_replace():
    figure = new_figure(2, 2)
    figure.subplots().plot([0, 1], color=COLOURS["oe"])
    text = Drawing("A & b", "", "name", figure).svg()
    size = 'style="width: 216px; min-width: 144px"'
    assert text.startswith(f'<svg role="img" aria-label="A &amp; b" {size} fill="currentColor"')
    assert f"stroke: var(--figure-8d1200, {COLOURS['oe']})" in text
    assert not set(re.findall(r"#[0-9a-f]{6}", text)) - set(DARK_COLOURS)
    assert "fill: #ffffff" not in text


@pytest.mark.parametrize(("size", "least", "preferred"), [(10, 389, 583), (8, 486, 729)])
def test_a_figure_of_a_page_is_at_least_so_wide_that_its_smallest_text_has_ten_pixels(size, least, preferred):
    figure = new_figure(ON_A_PHONE, 2)  # 388.8 points
    figure.text(0.5, 0.5, "small", fontsize=size)
    figure.text(0.5, 0.2, "large", fontsize=14)
    box = Drawing("A & b", "", "name", figure).scrolling()
    assert box.startswith('<div class="scrolling" role="region" tabindex="0" aria-label="A &amp; b"><svg ')
    assert f'style="width: {preferred}px; min-width: {least}px"' in box
