"""Whole runs of two processes, started by Lightning or by torchrun: the numbers of one process, each made once."""

import os
import subprocess
import sys

import pytest

from aloe_lightning.evaluation.records import read_records
from test_end_to_end import TINY

ODD = ("objective=aloe", *TINY, "data.num_test=21", "evaluation.max_ood=11", "trainer.accelerator=cpu")
TWO = (*ODD, "trainer.devices=2")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def start(folder, *words, by=()):
    environment = {**os.environ, "ALOE_OUTPUTS": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *by, "-m", "aloe_lightning", *words]
    return subprocess.Popen(
        command, env=environment, cwd=folder.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def run(folder, *words, by=()):
    with start(folder, *words, by=by) as job:
        printed = job.communicate(timeout=300)[0]
    assert job.returncode == 0, printed
    return printed


def values(folder, study="demo"):
    (path,) = (folder / study).glob("aloe-*/records.jsonl")
    return {(r.detector, r.side, r.ood, r.metric, r.num_id, r.num_ood): r.value for r in read_records(path)}


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one_on_the_same_weights(tmp_path):
    outputs = tmp_path / "outputs"
    printed = run(outputs, *TWO, "validation.every_n_epochs=1", "validation.images=11")
    assert printed.count("epoch 1: accuracy ") == 1
    assert "2 processes: each takes 16 of 32 inliers + 32 of 64 outliers of a batch" in printed
    (weights,) = outputs.glob("models/*/weights.safetensors")
    run(outputs, *ODD, f"checkpoint={weights}", "study=one")
    printed = run(outputs, *TWO, f"checkpoint={weights}", "study=two")
    assert printed.count("evaluated in") == 1
    assert values(outputs) == values(outputs, "one") == values(outputs, "two")
    assert {num_id for *_, num_id, _ in values(outputs)} == {21}


@pytest.mark.slow
def test_torchrun_beside_another_job_on_the_same_cell_ends(tmp_path):
    """Seen: the first process waited for the lock, found the net trained and left; the second waited for ever."""
    outputs = tmp_path / "outputs"
    jobs = [start(outputs, *TWO, by=TORCHRUN), start(outputs, *TWO)]
    printed = "".join(job.communicate(timeout=300)[0] for job in jobs)
    assert [job.returncode for job in jobs] == [0, 0], printed
    assert printed.count("aloe: trained in") == 1
    assert printed.count("aloe: evaluated in") == 1
    assert "done before" in run(outputs, *TWO, by=TORCHRUN)


@pytest.mark.slow
def test_a_batch_that_two_processes_cannot_share_is_a_clear_error(tmp_path):
    with start(tmp_path / "outputs", *TWO, "batch.inliers=33") as job:
        printed = job.communicate(timeout=100)[0]
    assert job.returncode == 2
    assert "batch.inliers=33 is the batch of all processes together: not divisible by their number, 2" in printed
