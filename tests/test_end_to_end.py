"""Whole runs through the command line, on tiny data: what a user does, and what lies there afterwards."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from aloe_lightning.records import read_records

TINY = (
    "net.width=4",
    "trainer.max_steps=2",
    "trainer.precision=32-true",
    "trainer.log_every_n_steps=1",
    "data.num_train=96",
    "data.num_test=20",
    "outliers.count=200",
    "batch.inliers=32",
    "batch.outliers=64",
    "attack.eval.steps=2",
    "ood=[demo]",
    "evaluation.max_ood=10",
)


def weights(path):
    return torch.load(path / "weights.pt", weights_only=True)["state_dict"]


def test_a_sweep_over_the_objectives_leaves_the_papers_table_twice_the_same(command):
    outputs = command("-m", "+sweep=methods", *TINY)
    study = outputs / "demo"
    first = (study / "tables.csv").read_text()
    rows = list(csv.DictReader(first.splitlines()))
    methods = ["MSP", "ODIN", "OE", "OE+ODIN", "ADV", "AOE", "ALOE", "ALOE+ODIN"]
    assert list(dict.fromkeys(r["method"] for r in rows if r["table"] == "table1")) == methods
    for name in ("tables_by_ood.csv", "tables.md", "scores.png", "scores.pdf"):
        assert (study / name).stat().st_size > 0
    for cell in study.glob("*-seed0-*"):
        files = {path.name for path in cell.iterdir()}
        assert {"config.json", "metrics.csv", "records.jsonl", "scores.npz", "versions.json", "weights.pt"} <= files
    command("-m", "+sweep=methods", *TINY)
    assert (study / "tables.csv").read_text() == first


def test_training_logs_every_quantity(command):
    outputs = command("+experiment=demo_aloe", *TINY)
    (cell,) = (outputs / "demo").glob("aloe-*")
    rows = list(csv.DictReader((cell / "metrics.csv").read_text().splitlines()))
    logged = {name for row in rows for name, value in row.items() if value}
    kinds = [
        f"inlier_{what}_{state}" for what in ("loss", "accuracy", "confidence") for state in ("clean", "adversarial")
    ]
    expected = [*kinds, "outlier_loss_adversarial", "outlier_confidence_adversarial", "lr", "loss"]
    assert {f"train/{name}" for name in expected} <= logged


def test_curves_carry_the_values_of_their_own_step(command):
    from aloe_lightning.objectives import Optim

    outputs = command("+experiment=demo_oe", *TINY, "trainer.max_steps=6", "trainer.log_every_n_steps=3")
    (cell,) = (outputs / "demo").glob("oe-*")
    rows = [r for r in csv.DictReader((cell / "metrics.csv").read_text().splitlines()) if r["train/lr"]]
    schedule = Optim(lr=0.2, warmup=0.25)
    assert {int(r["step"]): float(r["train/lr"]) for r in rows} == pytest.approx(
        {step: schedule.rate(step, 6) for step in (2, 5)}, rel=1e-5
    )


def test_weights_evaluated_again_give_the_same_records(command):
    outputs = command("+experiment=demo_oe", *TINY)
    (cell,) = (outputs / "demo").glob("oe-*")
    command("+experiment=demo_oe", *TINY, f"checkpoint={cell / 'weights.pt'}", "study=again")
    (again,) = (outputs / "again").glob("oe-*")
    values = [[r.value for r in read_records(path / "records.jsonl")] for path in (cell, again)]
    assert values[0] == values[1]
    assert not (again / "weights.pt").exists()


def test_cells_of_different_settings_have_folders_and_tables_of_their_own(command):
    outputs = command("-m", "+experiment=demo_oe", "optim.lr=0.1,0.2", *TINY)
    found = [read_records(path) for path in (outputs / "demo").glob("oe-*/records.jsonl")]
    assert len(found) == 2
    assert found[0][0].setting != found[1][0].setting
    rows = list(csv.DictReader((outputs / "demo" / "tables.csv").read_text().splitlines()))
    assert len([r for r in rows if r["method"] == "OE" and r["metric"] == "auroc"]) == 2


def test_a_damaged_checkpoint_to_resume_from_is_named(command, capsys):
    outputs = command("+experiment=demo_oe", *TINY)
    (cell,) = (outputs / "demo").glob("oe-*")
    whole = (cell / "last.ckpt").read_bytes()
    (cell / "last.ckpt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SystemExit):
        command("+experiment=demo_oe", *TINY, "resume=true")
    assert "last.ckpt: it is damaged" in capsys.readouterr().err
    assert not (cell / "records.jsonl").exists()


def test_a_resumed_training_ends_where_an_uninterrupted_one_does(command, monkeypatch):
    whole = [*TINY, "trainer.max_steps=-1", "+experiment=demo_aloe"]
    outputs = command(*whole, "trainer.max_epochs=2", "study=whole")

    # The schedule looks at the end of the training, so the first part must believe in two epochs: stop it after one.
    def stop(objective):
        if objective.current_epoch == 0:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(
            "pytorch_lightning.callbacks.ModelCheckpoint.on_train_epoch_end",
            lambda keep, trainer, module: (trainer.save_checkpoint(f"{keep.dirpath}/last.ckpt"), stop(module)),
        )
        with pytest.raises(SystemExit):
            command(*whole, "trainer.max_epochs=2", "study=parts")
    command(*whole, "trainer.max_epochs=2", "study=parts", "resume=true")
    first, second = (weights(next((outputs / study).glob("aloe-*"))) for study in ("whole", "parts"))
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, msg=name)


def test_a_sweep_over_epsilon_takes_its_arguments_in_any_order(command):
    outputs = command("+experiment=demo_aloe", "-m", "epsilon=1,2", *TINY)
    records = [r for path in outputs.glob("demo/*/records.jsonl") for r in read_records(path)]
    assert {(r.train_epsilon, r.eval_epsilon) for r in records} == {(1, 1), (2, 2)}
    tables = list(csv.DictReader((outputs / "demo" / "tables.csv").read_text().splitlines()))
    assert {(r["table"], r["epsilon"]) for r in tables if r["method"] == "ALOE"} >= {("table1", "1"), ("table3", "2")}


def test_wandb_logs_offline_without_a_key(command, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("NETRC", "/dev/null")
    outputs = command("+experiment=demo_oe", *TINY, "logger=wandb")
    (log,) = outputs.glob("demo/oe-*/wandb/offline-run-*/run-*.wandb")
    content = log.read_bytes()
    for key in (b"train/inlier_loss_clean", b"result/msp/clouds/both/auroc", b"outlier_weight"):
        assert key in content


def test_tensorboard_gets_the_curves(command):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    outputs = command("+experiment=demo_oe", *TINY, "logger=tensorboard")
    (folder,) = outputs.glob("demo/oe-*/tensorboard")
    events = EventAccumulator(str(folder)).Reload()
    assert {"train/loss", "result/accuracy"} <= set(events.Tags()["scalars"])


def test_versions_and_config_say_what_ran(command):
    outputs = command("+experiment=demo_oe", *TINY)
    (cell,) = (outputs / "demo").glob("oe-*")
    facts = json.loads((cell / "versions.json").read_text())
    assert (
        facts["packages"]["torch"] == torch.__version__.split("+")[0] or facts["packages"]["torch"] == torch.__version__
    )
    assert "width: 4" in (cell / "config" / "config.yaml").read_text()


@pytest.mark.slow
def test_two_processes_train_and_evaluate_without_losing_or_doubling_an_image(tmp_path):
    command = [sys.executable, "-m", "aloe_lightning", "+experiment=demo_aloe", *TINY, "trainer.accelerator=cpu"]
    command += ["trainer.devices=2", "trainer.strategy=ddp"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (cell,) = (tmp_path / "outputs" / "demo").glob("aloe-*")
    with np.load(cell / "scores.npz") as scores:
        assert scores["msp/id/attacked"].shape == (20,)
        assert scores["msp/clouds/attacked"].shape == (10,)
