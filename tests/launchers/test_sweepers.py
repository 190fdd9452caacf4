"""Sweepers that choose the next cell from the results: Optuna, and W&B's agent with the network alone replaced."""

import importlib.util
import json
import os
import queue
import subprocess
import sys
from pathlib import Path
from statistics import fmean

import pytest
import yaml
from engines import SWEEP

REPOSITORY = Path(__file__).resolve().parents[2]
TINY = [word for word in SWEEP if word[0] not in "-+" and not word.startswith(("objective=", "trainer.max_steps"))]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("optuna") is None, reason="hydra-optuna-sweeper is not installed")
def test_optuna_maximises_a_metric_by_name(tmp_path):
    words = ["-m", "hydra/sweeper=optuna", "objective=oe", "optimize=attacked_auroc/msp", "trainer.max_steps=5", *TINY]
    words += ["hydra.sweeper.direction=maximize", "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=1"]
    words += ["hydra.sweeper.sampler.seed=0", "optim.lr=tag(log,interval(0.001,0.3))", "paths.outputs=outputs"]
    done = subprocess.run(
        [sys.executable, "-m", "aloe_lightning", *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    values = []
    for file in tmp_path.glob("outputs/demo/*/records.jsonl"):
        records = [json.loads(line) for line in file.read_text().splitlines()]
        values.append(
            fmean(
                r["value"]
                for r in records
                if (r["detector"], r["side"], r["metric"]) == ("msp", "both", "auroc") and r["ood"]
            )
        )
    assert len(values) == 3
    best = yaml.safe_load((tmp_path / "outputs" / "optimization_results.yaml").read_text())
    assert best["best_value"] == pytest.approx(max(values))


@pytest.mark.slow
def test_the_sweep_file_of_wandb_runs_a_cell_as_its_agent_starts_it(tmp_path, monkeypatch):
    wandb_agent = pytest.importorskip("wandb.wandb_agent")
    sweep = yaml.safe_load((REPOSITORY / "examples" / "wandb_sweep.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    for key, value in {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SWEEP_ID": "sweep1"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    agent = wandb_agent.Agent(api=None, queue=queue.Queue())
    place = sweep["command"].index("+experiment=cifar10_aloe")
    agent._sweep_command = [*sweep["command"]]
    agent._sweep_command[place : place + 1] = ["objective=oe", "trainer.max_steps=2", "paths.outputs=outputs", *TINY]
    values = {"optim.lr": {"value": 0.05}, "objective.outlier_weight": {"value": 0.25}}
    assert set(values) == set(sweep["parameters"])
    monkeypatch.setenv("WANDB_RUN_ID", "run1")
    agent._command_run({"run_id": "run1", "program": sweep["program"], "args": values})
    assert agent._run_processes["run1"].wait() == 0
    (config,) = [json.loads(file.read_text()) for file in tmp_path.glob("outputs/demo/*/config.json")]
    assert (config["optim"]["lr"], config["objective"]["outlier_weight"]) == (0.05, 0.25)
    metric = sweep["metric"]["name"]
    _, detector, mean, side, measure = metric.split("/")
    assert (mean, measure) == ("mean", "auroc")
    (file,) = tmp_path.glob("outputs/demo/*/records.jsonl")
    records = [json.loads(line) for line in file.read_text().splitlines()]
    assert [r for r in records if (r["detector"], r["side"], r["metric"]) == (detector, side, measure)]
    assert list(tmp_path.rglob("run-run1.wandb")), "the run joins the sweep under the number that the agent gave it"
