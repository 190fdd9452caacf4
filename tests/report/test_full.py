"""The report: shapes of the paper's tables, the paper's numbers next to ours, missing cells, every form of it."""

import shutil

import numpy as np
import pytest
from synthetic_runs import cell, write_run

from aloe_lightning.paper.methods import PAPER_METHODS
from aloe_lightning.paper.published import published_numbers
from aloe_lightning.report import report
from aloe_lightning.report.frame import records_frame, table_frame
from aloe_lightning.report.runs import collect
from aloe_lightning.report.table_layouts import table_layouts
from aloe_lightning.report.texts import method_orders, missing_cells

PERTURBED = ("ADV", "AOE", "ALOE", "ALOE+ODIN")


def framed(folder, intervals=False):
    return table_frame(records_frame(collect(folder).groups), intervals=intervals)


def test_every_published_number_has_one_of_ours_next_to_it(frame):
    compared = frame[frame.published.notna()]
    assert len(compared) == len(published_numbers()) == 372
    assert missing_cells(frame) == []
    assert (compared.difference == compared.value - compared.published).all()
    assert ((frame.low <= frame.value) & (frame.value <= frame.high)).all()


def test_the_tables_have_the_papers_shape(frame, outputs):
    one, two, three, four = table_layouts(frame, collect(outputs).groups)
    assert list(one.blocks) == ["GTSRB, ε = 1/255", "CIFAR-10, ε = 1/255", "CIFAR-100, ε = 1/255"]
    for rows in one.blocks.values():
        assert [name for name, _ in rows] == [method.title for method in PAPER_METHODS[:9]]
    assert one.headings == [("without attack", 3), ("with attack", 3)]
    assert [column[1:] for column in two.columns] == [
        (name, "ε = 1/255") for name in ("GTSRB", "CIFAR-10", "CIFAR-100")
    ]
    budgets = [f"ε = {epsilon}/255" for epsilon in (2, 3, 4)]
    assert three.headings == [*((b, 3) for b in budgets), *((f"clean, nets of {b}", 3) for b in budgets)]
    assert list(three.blocks) == ["GTSRB", "CIFAR-10"]
    assert four.headings == [("clean", 4), ("under PGD", 4)]
    assert [name for name, _ in four.blocks["GTSRB"]] == ["Original", "OE", "ADV", "AOE", "ALOE"]
    for layout in (one, two, three):
        assert all(estimate is not None for rows in layout.blocks.values() for _, row in rows for estimate, _ in row)


def test_larger_budgets_show_the_clean_numbers_of_their_nets(frame, outputs):
    """The one net of an objective that perturbs nothing is shown in the column of each budget."""
    layouts = {layout.title[:7]: layout for layout in table_layouts(frame, collect(outputs).groups)}
    (rows, *_) = layouts["Table 3"].blocks.values()
    clean = {name: [estimate for estimate, _ in row[9:]] for name, row in rows}
    (base, *_) = layouts["Table 1"].blocks.values()
    for name, row in base:
        repeated = [estimate.value for estimate in clean[name]] == 3 * [estimate.value for estimate, _ in row[:3]]
        assert repeated == (name not in PERTURBED)
        assert all(np.isnan(estimate.published) for estimate in clean[name]), "the paper's clean nets are trained at 1"


def test_a_data_set_without_the_first_budget_keeps_its_numbers_in_table_3(outputs, tmp_path):
    shutil.copytree(outputs / "cifar10", tmp_path / "some", ignore=shutil.ignore_patterns("*-1-0", "*-4-0"))
    frame = framed(tmp_path)
    one, _, three, _ = table_layouts(frame, collect(tmp_path).groups)
    assert one.headings == [("without attack", 3)]
    assert three.headings == [("ε = 2/255", 3), ("ε = 3/255", 3), ("clean, nets of ε = 3/255", 3)]
    clean = frame[(frame.epsilon == 0) & frame.published.notna()]
    assert set(clean.method.map(str)) == {"MSP", "ODIN", "Mahalanobis", "OE", "OE+ODIN", "Original"}


def test_the_best_of_a_column_is_the_least_or_the_greatest(frame, outputs):
    (rows, *_) = table_layouts(frame, collect(outputs).groups)[0].blocks.values()
    for column, choose in ((0, min), (1, min), (2, max)):
        cells = [row[column] for _, row in rows]
        best = [estimate.value for estimate, mark in cells if mark]
        assert best == [choose(estimate.value for estimate, _ in cells)]


def test_the_order_of_methods_is_compared_with_the_papers(frame):
    lines = method_orders(frame)
    assert [line.split(":")[0] for line in lines] == [
        *(f"{name}, {b}" for name in ("GTSRB", "CIFAR-10") for b in ("clean", *(f"ε = {e}/255" for e in (1, 2, 3, 4)))),
        "CIFAR-100, clean", "CIFAR-100, ε = 1/255",
    ]  # fmt: skip
    assert all(": 1.00; " in line for line in method_orders(frame.assign(value=frame.published)))
    assert all(": -1.00; " in line for line in method_orders(frame.assign(value=-frame.published)))
    assert "the paper's ALOE+ODIN > ALOE > AOE > ADV > OE+ODIN > Mahalanobis > ODIN > OE > MSP" in lines[6]


@pytest.mark.usefixtures("no_figures")
def test_several_seeds_are_a_mean_and_a_deviation(tmp_path):
    for seed in (0, 1, 2):
        write_run(tmp_path / f"oe{seed}", cell("oe", seed=seed), seed)
    frame = framed(tmp_path, intervals=True)
    (layout, *_) = table_layouts(frame, collect(tmp_path).groups)
    estimate, _ = layout.blocks["CIFAR-10, ε = 1/255"][0][1][5]
    assert (frame.seeds == 3).all()
    assert frame.low.isna().all()
    assert estimate.margin == estimate.std > 0
    report(tmp_path, tmp_path / "out")
    assert "± is the standard deviation over seeds." in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.usefixtures("no_figures")
def test_missing_cells_are_named_and_nothing_fails(outputs, tmp_path):
    shutil.copytree(outputs, tmp_path / "some")
    shutil.rmtree(tmp_path / "some" / "cifar100")
    shutil.rmtree(tmp_path / "some" / "cifar10" / "aloe-3-0")
    shutil.rmtree(tmp_path / "some" / "gtsrb" / "adv-1-0")
    files = {path.name: path for path in report(tmp_path / "some", tmp_path / "out")}
    text = files["report.md"].read_text()
    assert "- Table 3, CIFAR-10, ε = 3/255: ALOE, ALOE+ODIN" in text
    assert "- Table 1, GTSRB, clean, ε = 1/255: ADV\n" in text
    assert "- Table 4, CIFAR-100, clean, ε = 1/255: Original, OE, ADV, AOE, ALOE" in text


def test_on_other_data_a_cell_is_missing_if_other_methods_have_it(tmp_path):
    for objective, epsilon in (("oe", 1), ("oe", 2), ("aloe", 1)):
        run = cell(objective, dataset="own", eval_epsilon=epsilon, train_epsilon=None)
        write_run(tmp_path / f"{objective}{epsilon}", run)
    lines = ["Larger budgets, own, ε = 2/255: ALOE, ALOE+ODIN", "Accuracy, own, ε = 2/255: ALOE"]
    assert missing_cells(framed(tmp_path)) == lines


def test_nets_that_are_evaluated_at_other_budgets_miss_nothing(tmp_path):
    for objective, trained, epsilon in (("oe", None, 1), ("oe", None, 2), ("aloe", 1, 2), ("aloe", 2, 2)):
        run = cell(objective, dataset="own", eval_epsilon=epsilon, train_epsilon=trained)
        write_run(tmp_path / f"{objective}{trained}{epsilon}", run)
    assert missing_cells(framed(tmp_path)) == []


@pytest.mark.usefixtures("no_figures")
def test_the_largest_group_is_shown_and_the_others_are_named(outputs, tmp_path):
    shutil.copytree(outputs / "cifar100", tmp_path / "cifar100")
    write_run(tmp_path / "cifar100" / "other", cell(dataset="cifar100", protocol="another"))
    (tmp_path / "cifar100" / "oe-1-0" / "scores.npz").unlink()
    text = {path.name: path for path in report(tmp_path, tmp_path / "out")}["report.md"].read_text()
    assert "\n4 cells on CIFAR-100, seed 0." in text
    assert f"different protocol, detector settings or images: {tmp_path / 'cifar100' / 'other'}" in text
    assert f"records of another version, or without scores: {tmp_path / 'cifar100' / 'oe-1-0'}" in text
