"""The tables that every run writes and prints."""

import csv
import io
import json
import os
import random
import time
from statistics import mean
from types import SimpleNamespace

import pytest
from synthetic_runs import OBJECTIVES, cell, write_run

from aloe_lightning.evaluation.records import read_records
from aloe_lightning.report import report, show_studies, write_study
from aloe_lightning.report.table_layouts import _marked

NO_FIGURES = pytest.mark.usefixtures("no_figures")


def study(folder, epsilons=(1,), **changes):
    for number, (objective, epsilon) in enumerate((o, e) for o in OBJECTIVES for e in epsilons):
        write_run(folder / f"{objective}-{epsilon}", cell(objective, eval_epsilon=epsilon, **changes), number)
    return folder


def read(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


def test_a_study_leaves_tables_and_figure_and_names_runs_of_another_setting(tmp_path):
    study(tmp_path)
    write_run(tmp_path / "other", cell(protocol="ffffffff"), 9)
    written = write_study(tmp_path)
    assert written.left_out == [tmp_path / "other"], "though it is the latest"
    assert sorted(path.name for path in written.files) == [
        "scores.pdf", "scores.png", "tables.csv", "tables.md", "tables_by_ood.csv",
    ]  # fmt: skip
    assert (tmp_path / "scores.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "scores.pdf").read_bytes().startswith(b"%PDF")
    assert [path.name for path in tmp_path.glob(".*")] == [".tables.lock"]
    text = (tmp_path / "tables.md").read_text()
    assert "50 in-distribution test images, OOD test sets a (40), b (40)" in text
    assert "bootstrap" not in text
    assert "±" not in text


@NO_FIGURES
def test_a_study_with_missing_cells_is_still_tabulated(tmp_path):
    (study(tmp_path) / "aloe-1" / "records.jsonl").unlink()
    methods = set(write_study(tmp_path).frame.method.map(str))
    assert "OE+ODIN" in methods
    assert "ALOE" not in methods


@NO_FIGURES
def test_study_and_report_write_the_same_numbers_in_one_schema(tmp_path):
    study(tmp_path / "study", epsilons=(1, 2))
    write_study(tmp_path / "study")
    report(tmp_path / "study", tmp_path / "out")
    rows, with_intervals = read(tmp_path / "study" / "tables.csv"), read(tmp_path / "out" / "tables.csv")
    header = "table,dataset,method,trained_at,epsilon,metric,value,low,high,std,seeds,published,difference"
    assert ",".join(rows[0]) == header
    assert [{**row, "low": "", "high": ""} for row in with_intervals] == rows
    assert all(row["low"] for row in with_intervals)
    by_ood = [(folder / "tables_by_ood.csv").read_text() for folder in (tmp_path / "study", tmp_path / "out")]
    assert by_ood[0] == by_ood[1]


@NO_FIGURES
def test_tables_do_not_depend_on_the_order_in_which_runs_ended(tmp_path):
    study(tmp_path, epsilons=(1, 2))
    texts = set()
    for seed in range(3):
        paths = sorted(tmp_path.glob("*/records.jsonl"))
        for when, path in enumerate(random.Random(seed).sample(paths, len(paths))):
            os.utime(path, (when, when))
        write_study(tmp_path)
        texts.add(tuple((tmp_path / name).read_text() for name in ("tables.csv", "tables.md", "tables_by_ood.csv")))
    assert len(texts) == 1


@NO_FIGURES
def test_by_ood_table_has_every_set_and_side_in_the_order_of_the_methods(tmp_path):
    study(tmp_path)
    write_run(tmp_path / "more", cell("aoe", seed=1), 77)
    write_study(tmp_path)
    rows = read(tmp_path / "tables_by_ood.csv")
    titles = ["MSP", "ODIN", "Mahalanobis", "OE", "OE+ODIN", "ADV", "AOE", "ALOE", "ALOE+ODIN"]
    assert list(dict.fromkeys(row["method"] for row in rows)) == titles
    assert len(rows) == 9 * 4 * 2
    assert [(r["side"], r["ood"]) for r in rows[:8]] == [(s, o) for s in ("none", "id", "ood", "both") for o in "ab"]
    (row,) = (r for r in rows if (r["method"], r["side"], r["ood"]) == ("AOE", "id", "b"))
    assert (row["epsilon"], row["num_id"], row["num_ood"]) == ("1", "50", "40")
    by_seed = [
        r.value
        for name in ("aoe-1", "more")
        for r in read_records(tmp_path / name / "records.jsonl")
        if (r.side, r.ood, r.metric) == ("id", "b", "aupr_in")
    ]
    assert float(row["aupr_in"]) == pytest.approx(100 * mean(by_seed), abs=0.0051)


@NO_FIGURES
def test_only_data_sets_of_the_paper_are_compared_with_it(tmp_path):
    study(tmp_path, dataset="own")
    write_study(tmp_path)
    text = (tmp_path / "tables.md").read_text()
    assert "outliers 300K Random Images;" in text
    assert "the paper's" not in text


def test_a_cell_that_is_not_in_the_tables_is_printed_below_them(tmp_path, capsys):
    """Otherwise a second command would print the numbers of the first."""
    study(tmp_path / "study")
    write_run(tmp_path / "study" / "other", cell(protocol="ffffffff"), 9)
    for run in (tmp_path / "study").iterdir():
        (run / "config.json").write_text("{}")
        os.utime(run / "config.json", (1, 1) if run.name != "other" else None)
    write_study(tmp_path / "study")
    capsys.readouterr()
    show_studies(tmp_path, since=2)
    tables, _, own = capsys.readouterr().out.partition("NOT in these tables")
    assert str(tmp_path / "study" / "other") in own
    assert "Their own tables" in own
    assert ("ADV" in tables, "ADV" in own) == (True, False)
    os.utime(tmp_path / "study" / "other" / "config.json", (1, 1))
    show_studies(tmp_path, since=2)
    assert "NOT in these tables" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("values", "marks"),
    [
        ([100, 99.998, 100], [False, False, False]),
        ([97.921, 98, 97.919], [True, False, True]),
        ([3], [False]),
    ],
)
def test_every_best_number_of_a_column_is_marked_as_it_is_shown(values, marks):
    cells = [SimpleNamespace(metric="fpr95", value=value) for value in values]
    assert [mark for _, mark in _marked([*cells, None])] == [*marks, False]


@NO_FIGURES
def test_two_data_sets_of_a_study_are_both_tabulated(tmp_path):
    study(tmp_path / "both")
    for objective in ("oe", "aloe"):
        write_run(tmp_path / "both" / f"demo-{objective}", cell(objective, dataset="demo", eval_epsilon=3))
    assert list(dict.fromkeys(write_study(tmp_path / "both").frame.dataset)) == ["CIFAR-10", "demo"]


@NO_FIGURES
def test_studies_are_printed_with_every_table(tmp_path, capsys):
    study(tmp_path / "study", epsilons=(1, 2))
    frame = write_study(tmp_path / "study").frame
    report(tmp_path, tmp_path / "report")  # its tables are next to the study and are no study
    capsys.readouterr()
    assert show_studies(tmp_path, since=0) == 1
    printed = capsys.readouterr().out
    for number in (1, 2, 3, 4):
        assert f"Table {number}." in printed
    assert "means over the OOD test sets" in printed
    for row in frame.itertuples():
        assert f"{row.value:.2f}" in printed
    assert show_studies(tmp_path, since=time.time() + 9) == 0


@NO_FIGURES
@pytest.mark.parametrize(("weights", "said"), [(("a", "a"), True), (("a", "b"), False), (("", ""), False)])
def test_several_seeds_of_the_attack_on_one_net_are_not_taken_for_several_trainings(tmp_path, weights, said):
    for seed, digest in enumerate(weights):
        write_run(tmp_path / str(seed), cell("oe", seed=seed), seed)
        (tmp_path / str(seed) / "versions.json").write_text(json.dumps({"weights": digest}))
    write_study(tmp_path)
    text = (tmp_path / "tables.md").read_text()
    assert "seed 0, 1" in text
    assert ("seed 0, 1 of the attack on the same weights, not of the training." in text) == said


def test_a_kill_amid_the_figure_leaves_no_tables_that_look_complete(tmp_path, monkeypatch):
    """The table by which a finished cell knows that its study is complete is written after everything else."""
    study(tmp_path)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("aloe_lightning.report.reports.save_figure", killed)
    with pytest.raises(KeyboardInterrupt):
        write_study(tmp_path)
    assert not (tmp_path / "tables.csv").exists()
    assert (tmp_path / "tables.md").exists()
