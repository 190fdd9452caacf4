"""A sweep that is killed at any moment and started again ends in the tables of one that was not."""

import random
import shutil
import time
from pathlib import Path

import pytest

import processes
from processes import exit_code
from test_end_to_end import TINY

SWEEP = ("-m", "+sweep=methods", "objective=oe,aloe", "epsilon=1,2", *TINY)
SLOWER = ("trainer.max_steps=6", "checkpoint_seconds=0.05")


def started(folder, *words):
    """The sweep in a process of its own."""
    return processes.started([*SWEEP, f"paths.outputs={folder}", *words], folder.parent)


def tables(folder):
    return {path.name: path.read_bytes() for path in (folder / "demo").glob("tables*")}


def times(folder):
    """When each result and each net was finished."""
    return {path: path.stat().st_mtime_ns for name in ("records.jsonl", "model.json") for path in folder.rglob(name)}


@pytest.mark.parametrize(
    ("most", "cells"),
    [
        (1, ["epsilon=1", "objective=original,oe", "trainer.max_steps=4"]),
        pytest.param(3, ["epsilon=1,2"], marks=pytest.mark.slow),
    ],
)
def test_kills_at_random_moments_change_nothing(tmp_path, most, cells):
    """The one process of the sweep is parent and job at once: kill -9 takes both, amid training, attack or writing."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    words = [*SLOWER, *cells]
    begun = time.monotonic()
    assert exit_code(started(whole, *words)) == 0
    lasted = time.monotonic() - begun
    moments = random.Random(0)
    finished, kills = {}, 0
    while kills < most:
        sweep = started(parts, *words)
        if exit_code(sweep, moments.uniform(0.35, 0.8) * lasted) is not None:
            shutil.rmtree(parts)  # it was faster than the first: again, with an earlier kill
            finished, lasted = {}, lasted / 2
            continue
        sweep.kill()
        sweep.join()
        kills += 1
        assert {path: when for path, when in times(parts).items() if path in finished} == finished
        finished = times(parts)
    assert exit_code(started(parts, *words)) == 0
    assert tables(parts) == tables(whole)
    assert len(tables(whole)) == 3
    assert {path: when for path, when in times(parts).items() if path in finished} == finished


def test_two_sweeps_at_once_train_no_net_and_evaluate_no_cell_twice(tmp_path):
    """One of them is contained in the other."""
    folder = tmp_path / "both"
    sweeps = [started(folder, "epsilon=1"), started(folder, "epsilon=1,2")]
    assert [exit_code(sweep) for sweep in sweeps] == [0, 0]
    log = (tmp_path / "log").read_text()
    assert [log.count(f"\n{name}: training\n") for name in ("oe", "aloe")] == [1, 2]
    assert [log.count(f"\n{name}: evaluated in ") for name in ("oe", "aloe")] == [2, 2]


def test_a_cell_that_fails_does_not_stop_the_others_and_is_named_last_with_its_log(command, capsys):
    with pytest.raises(SystemExit) as end:
        command("-m", "+sweep=methods", "objective=oe,original", "optim.lr=1e30,0.1", *TINY)
    assert end.value.code == 2
    outputs = Path.cwd() / "outputs"
    assert len(list(outputs.glob("demo/*/records.jsonl"))) == 2
    printed = capsys.readouterr().err
    assert "2 of the cells are missing" in printed
    for log in outputs.glob("demo/*/failed.log"):
        assert "diverged" in log.read_text()
        assert str(log) in printed
    with pytest.raises(SystemExit):
        command("-m", "+sweep=methods", "objective=oe", "optim.lr=1e30,0.1", *TINY)
    assert capsys.readouterr().err.count("done before") == 1
    command("-m", "+sweep=methods", "objective=oe,original", "optim.lr=0.1", *TINY)
    assert "failed" not in capsys.readouterr().err
