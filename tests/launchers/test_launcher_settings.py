"""Settings of the launchers that decided what was lost, and what a sweep says of a killed job; no engine is run."""

from pathlib import Path

import pytest
import yaml

from aloe_lightning.cli.sweep import _in_words, _was_killed

LAUNCHERS = Path(__file__).resolve().parents[2] / "conf" / "launcher"


def settings(name):
    return yaml.safe_load((LAUNCHERS / f"{name}.yaml").read_text())["hydra"]["launcher"]


def test_ray_waits_for_no_gpu_takes_a_running_cluster_and_writes_to_the_folder_of_the_command():
    ray = settings("ray")["ray"]
    assert ray["remote"]["num_gpus"] == "${gpus_per_job:}"
    assert ray["init"]["object_store_memory"] is None, "a running cluster refuses any other value"
    assert ray["init"]["runtime_env"]["env_vars"]["ALOE_FOLDER"] == "${absolute:.}"
    assert ray["init"]["runtime_env"]["env_vars"]["ALOE_STARTED"].startswith("${oc.env:ALOE_STARTED"), (
        "else each worker would train a net again with recompute=training"
    )


def test_a_job_of_slurm_has_a_day_and_goes_back_to_the_queue():
    slurm = settings("submitit")
    assert (slurm["timeout_min"], slurm["partition"]) == (24 * 60, None)
    assert slurm["max_num_timeout"] > 0
    assert slurm["signal_delay_s"] >= 60


@pytest.mark.parametrize(
    ("module", "name", "killed"),
    [
        ("submitit.core.utils", "UncompletedJobError", True),
        ("ray.exceptions", "WorkerCrashedError", True),
        ("ray.exceptions", "OutOfMemoryError", True),
        ("concurrent.futures.process", "BrokenProcessPool", False),
        ("submitit.core.utils", "FailedJobError", False),
    ],
)
def test_a_killed_job_is_told_from_one_that_failed(module, name, killed):
    kind = type(name, (Exception,), {"__module__": module})
    assert _was_killed(kind()) == killed
    assert _was_killed(type("Derived", (kind,), {})()) == killed


def test_a_missing_cell_is_named_with_its_log_and_job_number(tmp_path):
    cell = tmp_path / "demo" / "aloe-1"
    (cell / "config").mkdir(parents=True)
    (cell / "config" / "hydra.yaml").write_text("hydra:\n  job:\n    id: '77_0'\n")
    log = tmp_path / ".submitit" / "77_0" / "77_0_0_log.err"
    log.parent.mkdir(parents=True)
    log.write_text("slurmstepd: error: Detected 1 oom-kill event\n")
    assert _in_words(cell, 0) == f"  aloe-1: no result\n    {log} (job 77_0)"
    assert "no log: its job has not started" in _in_words(tmp_path / "demo" / "oe-1", 0)
