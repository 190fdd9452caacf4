"""The plan of a sweep: which cells, which nets, what is done, how long the rest takes."""

import json
import time
from dataclasses import replace
from functools import cache

import pytest

from aloe_lightning.cli.dry_run import estimate, planned
from aloe_lightning.paper.datasets import DATASET_TITLES
from aloe_lightning.paper.published import published_numbers
from aloe_lightning.paper.settings import PUBLISHED_EPSILONS
from composing import composed
from test_end_to_end import TINY


@cache
def plan(*words):
    """The cells of a sweep; composing 60 configs takes long, so that nothing is composed twice."""
    return planned(["--multirun", *words, "paths.outputs=outputs"])


@pytest.mark.parametrize(("sweep", "cells", "nets"), [("table1", 15, 15), ("table3", 30, 22)])
def test_the_papers_tables(sweep, cells, nets):
    found = plan(f"+sweep={sweep}")
    assert (len(found), len({cell.model.folder for cell in found})) == (cells, nets)


@pytest.mark.parametrize("sweep", ["table2", "table4"])
def test_tables_2_and_4_are_other_views_of_table_1(sweep):
    one = ("+experiment=gtsrb", "objective=aloe")
    (cell,), (same,) = plan(f"+sweep={sweep}", *one), plan("+sweep=table1", *one)
    assert cell.folder == same.folder
    assert composed(f"+sweep={sweep}").group == sweep


def test_the_whole_paper_is_45_cells_of_33_nets():
    started = time.process_time()
    found = plan("+sweep=paper")
    assert time.process_time() - started < 4  # seconds; it was 25
    assert (len(found), len({cell.model.folder for cell in found})) == (45, 33)
    budgets = {}
    for cell in found:
        budgets.setdefault(cell.config["data"]["name"], set()).add(cell.config["epsilon"])
    assert {name: tuple(sorted(each)) for name, each in budgets.items()} == PUBLISHED_EPSILONS
    detectors = {cell.config["objective"]["name"]: list(cell.config["detector"]) for cell in found}
    assert detectors == {
        "original": ["msp", "odin", "mahalanobis"], "oe": ["msp", "odin"], "adv": ["msp"], "aoe": ["msp"],
        "aloe": ["msp", "odin"],
    }  # fmt: skip


def test_the_budgets_of_the_paper_are_those_of_its_tables():
    budgets = {name: set() for name in PUBLISHED_EPSILONS}
    for place in published_numbers():
        if place.epsilon:
            budgets[next(name for name, title in DATASET_TITLES.items() if title == place.dataset)].add(place.epsilon)
    assert {name: tuple(sorted(found)) for name, found in budgets.items()} == PUBLISHED_EPSILONS


def test_seeds_multiply_and_a_choice_of_ones_own_replaces():
    found = plan("+sweep=paper", "seed=0,1,2", "epsilon=1", "objective=oe,aloe", "+experiment=cifar10")
    assert {(c.config["objective"]["name"], c.config["seed"]) for c in found} == {
        (name, seed) for name in ("oe", "aloe") for seed in (0, 1, 2)
    }


def test_all_cells_of_a_data_set_can_stand_in_one_table():
    for name in ("table1", "paper"):
        settings = {}
        for cell in plan(f"+sweep={name}"):
            settings.setdefault(cell.config["data"]["name"], set()).add(cell.config["protocol"])
        assert all(len(found) == 1 for found in settings.values())


@pytest.mark.parametrize(
    ("words", "cells"),
    [(["+experiment=cifar10_aloe"], 1), (["-m", "objective=oe,aloe"], 2), (["-m", "+sweep=methods", "~ood.clouds"], 5)],
)
def test_the_dry_view_goes_with_any_command(command, capsys, words, cells):
    command(*words, "--dry")
    assert f"0 of {cells} cells done" in capsys.readouterr().out


def test_the_dry_view_takes_words_as_the_command_does(tmp_path, command, capsys):
    (whole,), (fewer,) = plan("objective=oe"), plan("objective=oe", "~ood.clouds")
    assert (len(whole.config["ood"]), len(fewer.config["ood"])) == (5, 4)
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nstudy: mine\n")
    command("+experiment=mine", f"--config-dir={tmp_path}", "--dry")
    assert "mine/aloe-" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        command("--info", "--dry")
    assert "--dry cannot be combined with --info" in capsys.readouterr().err


def test_the_dry_view_tells_done_from_trained_from_interrupted_and_touches_nothing(command, tmp_path, capsys):
    swept = ["-m", "+sweep=methods", "objective=original,oe,aloe,aoe", *TINY]
    command(*swept, "--dry")
    before = capsys.readouterr().out
    assert "0 of 4 cells done, 4 nets; no estimate until a cell is done" in before
    assert not (tmp_path / "outputs").exists()
    command(*TINY, "--dry")
    assert "0 of 1 cells done, 1 net;" in capsys.readouterr().out
    command(*swept, "objective=original,oe,aloe")
    outputs = tmp_path / "outputs"
    next(outputs.glob("demo/oe-*/records.jsonl")).unlink()
    (net,) = outputs.glob("models/demo-aloe-*")
    (net / "model.json").unlink()
    (net / "last.ckpt").write_bytes(b"")
    (net / "progress.json").write_text(json.dumps({"step": 1, "steps": 2, "seconds": 1.0}))
    next(outputs.glob("demo/aloe-*/records.jsonl")).unlink()
    capsys.readouterr()
    command(*swept, "--dry")
    lines = capsys.readouterr().out.splitlines()
    states = {
        name: next(line for line in lines if f"demo/{name}-" in line) for name in ("original", "oe", "aloe", "aoe")
    }
    assert " done " in states["original"]
    assert " net trained " in states["oe"]
    assert " interrupted at step 1 of 2 " in states["aloe"]
    assert " to do " in states["aoe"]
    assert any(line.startswith("1 of 4 cells done, 4 nets; about ") for line in lines)


def test_what_is_left_is_estimated_from_the_work_of_what_is_done(command):
    words = ["-m", "+sweep=methods", *TINY]
    command(*words, "objective=original")
    cells = {cell.config["objective"]["name"]: cell for cell in plan(*words)}
    original, aloe = cells["original"], cells["aloe"]
    # 32 inliers, 64 outliers, 2 steps, 4 inner steps: passes of an image that count 1, and 2/3 in the inner steps.
    assert (original.work, aloe.work) == (32 * 2, pytest.approx((96 + 96 * 4 * 2 / 3) * 2))
    facts = json.loads((original.folder / "versions.json").read_text())
    card = json.loads((original.model.folder / "model.json").read_text())
    expected = facts["evaluate_seconds"] + card["seconds"] / original.work * aloe.work
    assert estimate(aloe, list(cells.values())) == pytest.approx(expected)
    assert estimate(replace(aloe, new_net=False), list(cells.values())) == facts["evaluate_seconds"]
