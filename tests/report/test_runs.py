"""The runs that share a table."""

import os

import pytest
from synthetic_runs import cell, write_run

from aloe_lightning.errors import UserError
from aloe_lightning.report.runs import collect


def written(folder, run, time, **options):
    """Write a run as if at a time."""
    write_run(folder, run, **options)
    os.utime(folder / "records.jsonl", (time, time))


@pytest.mark.parametrize(
    ("changes", "shared"),
    [
        ({"pixels": "other"}, False),
        ({"outlier_pixels": "other"}, False),
        ({"protocol": "other"}, False),
        ({"objective": "original", "outlier_pixels": ""}, True),
        ({"seed": 1}, True),
        ({"seed": 1, "settings": {"msp": "f"}}, True),
        ({"seed": 1, "settings": {"msp": "f", "odin": "another"}}, False),
    ],
)
def test_only_runs_that_agree_share_a_table(tmp_path, changes, shared):
    settings = {"msp": "f", "odin": "g"}
    others = changes.pop("settings", settings)
    written(tmp_path / "first", cell(pixels="a", outlier_pixels="b"), 2, settings=settings)
    run = cell(**{"pixels": "a", "outlier_pixels": "b", **changes})
    written(tmp_path / "second", run, 1, settings=others, detectors=tuple(others))
    assert collect(tmp_path).left_out == ([] if shared else [tmp_path / "second"])


@pytest.mark.parametrize("latest", range(4))
def test_the_largest_group_is_taken_whatever_run_is_the_latest(tmp_path, latest):
    """A run without outliers fits both groups of outliers; one of them is larger with it."""
    runs = {
        "other": cell(outlier_pixels="x"),
        "oe": cell("oe", outlier_pixels="y"),
        "aloe": cell("aloe", outlier_pixels="y"),
        "original": cell("original"),
    }
    for number, (name, run) in enumerate(runs.items()):
        written(tmp_path / name, run, 100 if number == latest else number)
    assert collect(tmp_path).left_out == [tmp_path / "other"]


def test_of_equal_groups_the_latest_is_taken(tmp_path):
    for time, name in enumerate(("a", "b")):
        written(tmp_path / name, cell(protocol=name), time)
    assert collect(tmp_path).left_out == [tmp_path / "a"]
    os.utime(tmp_path / "a" / "records.jsonl", (9, 9))
    assert collect(tmp_path).left_out == [tmp_path / "b"]


def test_runs_are_ordered_by_content(tmp_path):
    runs = [cell("oe"), cell(eval_epsilon=2), cell(seed=1), cell(), cell("original")]
    for time, run in enumerate(runs):
        written(tmp_path / str(time), run, time)
    (group,) = collect(tmp_path).groups.values()
    assert [run.folder.name for run in group] == ["4", "0", "3", "2", "1"]


def test_data_sets_come_in_the_papers_order(tmp_path):
    for time, name in enumerate(("own", "cifar10", "gtsrb")):
        written(tmp_path / name, cell(dataset=name), time)
    assert list(collect(tmp_path).groups) == ["GTSRB", "CIFAR-10", "own"]


def test_what_cannot_be_read_is_named(tmp_path):
    written(tmp_path / "good", cell(), 0)
    written(tmp_path / "bare", cell(seed=1), 0)
    (tmp_path / "bare" / "scores.npz").unlink()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "records.jsonl").write_text('{"of": "another version"}\n')
    assert collect(tmp_path).unreadable == [tmp_path / "bare", tmp_path / "old"]
    with pytest.raises(UserError, match=f"no finished runs under {tmp_path / 'old'}, but 1 of another version"):
        collect(tmp_path / "old")
