"""Whole runs through the command line, on tiny data: what a user does, and what lies there afterwards."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from aloe_lightning import __version__
from aloe_lightning.evaluation.records import read_records
from aloe_lightning.training.callbacks import StateSaver
from processes import exit_code, started

TINY = (
    "net.width=8",
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


def model(outputs, name):
    """The folder of the one trained net of this name."""
    (folder,) = (outputs / "models").glob(f"demo-{name}-*")
    return folder


def weights(outputs, name):
    return load_file(model(outputs, name) / "weights.safetensors")


def test_a_sweep_over_the_objectives_leaves_the_papers_table_twice_the_same(command, figures):
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
        assert {"config.json", "metrics.csv", "records.jsonl", "scores.npz", "versions.json"} <= files
    command("-m", "+sweep=methods", *TINY)
    assert (study / "tables.csv").read_text() == first


def test_training_logs_every_quantity(command):
    outputs = command("objective=aloe", *TINY)
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

    outputs = command("objective=oe", *TINY, "trainer.max_steps=6", "trainer.log_every_n_steps=3")
    (cell,) = (outputs / "demo").glob("oe-*")
    rows = [r for r in csv.DictReader((cell / "metrics.csv").read_text().splitlines()) if r["train/lr"]]
    schedule = Optim(lr=0.2, warmup=0.25)
    assert {int(r["step"]): float(r["train/lr"]) for r in rows} == pytest.approx(
        {step: schedule.rate(step, 6) for step in (2, 5)}, rel=1e-5
    )


def test_weights_evaluated_again_give_the_same_records(command):
    outputs = command("objective=oe", *TINY)
    (cell,) = (outputs / "demo").glob("oe-*")
    command("objective=oe", *TINY, f"checkpoint={model(outputs, 'oe')}/weights.safetensors", "study=again")
    (again,) = (outputs / "again").glob("oe-*")
    values = [[r.value for r in read_records(path / "records.jsonl")] for path in (cell, again)]
    assert values[0] == values[1]
    assert json.loads((again / "versions.json").read_text())["model"] is None


def test_cells_of_different_settings_have_folders_and_tables_of_their_own(command):
    outputs = command("-m", "objective=oe", "optim.lr=0.1,0.2", *TINY)
    found = [read_records(path) for path in (outputs / "demo").glob("oe-*/records.jsonl")]
    assert len(found) == 2
    assert found[0][0].protocol != found[1][0].protocol
    rows = list(csv.DictReader((outputs / "demo" / "tables.csv").read_text().splitlines()))
    assert len([r for r in rows if r["method"] == "OE" and r["metric"] == "auroc"]) == 2


def stopped(monkeypatch, batches):
    """Keep the state of a training after every batch, and stop it after some of them."""
    keep = StateSaver.on_train_batch_end
    seen = []

    def kept(self, trainer, module, *rest):
        self.saved = -1e9
        keep(self, trainer, module, *rest)
        seen.append(trainer.global_step)
        if len(seen) == batches:
            raise KeyboardInterrupt

    monkeypatch.setattr(StateSaver, "on_train_batch_end", kept)


EPOCHS = ("trainer.max_steps=-1", "trainer.max_epochs=3", "objective=aloe")
"""Of 3 batches each."""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The weights of a training that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    assert exit_code(started([*TINY, *EPOCHS, f"paths.outputs={folder}"], folder)) == 0
    return weights(folder, "aloe")


@pytest.mark.parametrize("batches", [1, 3, pytest.param(4, marks=pytest.mark.slow), 8])
def test_a_training_that_goes_on_ends_where_an_uninterrupted_one_does(
    command, monkeypatch, batches, capsys, uninterrupted
):
    with monkeypatch.context() as patch:
        stopped(patch, batches)
        with pytest.raises(SystemExit):
            command(*TINY, *EPOCHS)
    outputs = command(*TINY, *EPOCHS)
    kept = batches - (batches % 3 == 0)  # the last batch of an epoch is passed over
    assert f"resuming after step {kept} of an interrupted training" in capsys.readouterr().err
    found = weights(outputs, "aloe")
    assert all(torch.equal(found[name], tensor) for name, tensor in uninterrupted.items())
    assert not (model(outputs, "aloe") / "last.ckpt").exists()


def test_a_damaged_state_is_named_and_the_training_begins_afresh(command, monkeypatch, capsys, uninterrupted):
    with monkeypatch.context() as patch:
        stopped(patch, 2)
        with pytest.raises(SystemExit):
            command(*TINY, *EPOCHS)
    file = next(Path.cwd().glob("outputs/models/*/last.ckpt"))
    file.write_bytes(file.read_bytes()[:1000])
    outputs = command(*TINY, *EPOCHS)
    assert "last.ckpt is damaged" in capsys.readouterr().err
    found = weights(outputs, "aloe")
    assert all(torch.equal(found[name], tensor) for name, tensor in uninterrupted.items())


def test_what_is_done_is_not_computed_again_unless_asked(command, capsys):
    outputs = command("objective=oe", *TINY)
    (cell,) = (outputs / "demo").glob("oe-*")
    files = [cell / "records.jsonl", model(outputs, "oe") / "model.json"]

    def times():
        return [file.stat().st_mtime_ns for file in files]

    first = times()
    capsys.readouterr()
    command("objective=oe", *TINY)
    printed = capsys.readouterr()
    assert times() == first
    assert "done before" in printed.err
    assert "means over the OOD test sets" in printed.out
    shown = (outputs / "demo" / "tables.csv").read_text()
    (outputs / "demo" / "tables.csv").unlink()
    command("objective=oe", *TINY)
    assert (outputs / "demo" / "tables.csv").read_text() == shown
    command("objective=oe", *TINY, "recompute=evaluation")
    second = times()
    assert (second[0] > first[0], second[1] == first[1]) == (True, True)
    command("objective=oe", *TINY, "recompute=training")
    assert all(new > old for new, old in zip(times(), second, strict=True))


def test_one_net_serves_every_budget_and_further_detectors(command, capsys):
    outputs = command("-m", "objective=oe", "epsilon=1,2", *TINY)
    command("objective=oe", "epsilon=1", "detector=[energy]", *TINY)
    assert capsys.readouterr().err.count("oe: training\n") == 1
    assert model(outputs, "oe").name.startswith("demo-oe-seed0-")
    rows = csv.DictReader((outputs / "demo" / "tables.csv").read_text().splitlines())
    assert {r["method"] for r in rows if r["table"] == "table1"} == {"OE", "OE+ODIN", "OE+Energy"}


def test_a_net_trained_again_takes_its_fits_and_its_cells_with_it(command, capsys):
    """What was fitted on the old net, and what another cell measured of it, holds no longer."""
    detector = ["detector=[msp,mahalanobis_last]"]
    outputs = command("-m", "objective=oe", "epsilon=1,2", *detector, *TINY)
    fits = model(outputs, "oe") / "detectors"
    first = [file.stat().st_mtime_ns for file in sorted(fits.iterdir())]
    assert len(first) == 2  # settings and tensors of one fit
    weights_before = (model(outputs, "oe") / "weights.safetensors").read_bytes()
    command("objective=oe", "epsilon=1", *detector, *TINY, "recompute=training")
    assert [file.stat().st_mtime_ns for file in sorted(fits.iterdir())] != first
    # The same seed trains the same weights: make them others, as another version of a library would.
    assert (model(outputs, "oe") / "weights.safetensors").read_bytes() == weights_before
    changed = {name: tensor * 1.1 for name, tensor in weights(outputs, "oe").items()}
    save_file(changed, model(outputs, "oe") / "weights.safetensors")
    capsys.readouterr()
    command("objective=oe", "epsilon=2", *detector, *TINY)
    assert "done before" not in capsys.readouterr().err


def test_training_again_trains_a_shared_net_once(command, capsys):
    words = ["-m", "objective=oe", "epsilon=1,2", *TINY]
    command(*words)
    capsys.readouterr()
    command(*words, "recompute=training")
    told = capsys.readouterr().err
    assert (told.count("oe: training\n"), told.count("oe: evaluated")) == (1, 2)


def test_images_of_ones_own_that_have_changed_are_noticed(command, tmp_path, capsys):
    draws = np.random.default_rng(0)

    def write(name, count, labels=True):
        images = draws.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        if labels:
            np.savez(tmp_path / f"{name}.npz", images=images, labels=np.arange(count) % 3)
        else:
            np.save(tmp_path / f"{name}.npy", images)

    for name, count in (("train", 48), ("test", 12)):
        write(name, count)
    for name in ("out", "far"):
        write(name, 40, labels=False)
    words = ["+experiment=custom", "data=npz", "data.train=train.npz", "data.test=test.npz", "outliers=npy"]
    words += ["outliers.path=out.npy", "+ood.far=far.npy", "objective=oe", "net.width=8", "trainer.max_steps=2"]
    words += ["batch.inliers=16", "batch.outliers=16", "attack.eval.steps=1"]
    outputs = command(*words)
    before = next(outputs.glob("custom/*/records.jsonl")).read_text()
    write("far", 40, labels=False)
    command(*words)
    assert next(outputs.glob("custom/*/records.jsonl")).read_text() != before
    write("train", 48)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        command(*words)
    assert "was trained on other images than data and outliers hold now: recompute=training" in capsys.readouterr().err
    command(*words, "recompute=training")


def test_tables_that_are_older_than_a_result_are_made_again(command):
    outputs = command("-m", "+sweep=methods", "objective=oe,original", *TINY)
    tables = outputs / "demo" / "tables.csv"
    whole = tables.read_text()
    tables.write_text("\n".join(line for line in whole.splitlines() if ",OE" not in line) + "\n")
    os.utime(tables, (1, 1))
    command("objective=original", *TINY)
    assert tables.read_text() == whole


def test_mistakes_of_detectors_are_told_before_the_training(command, capsys):
    with pytest.raises(SystemExit):
        command(*TINY, "detector=[odin_tuned,pytorch_ood]", "detector.pytorch_ood.detector=GENN")
    told = capsys.readouterr().err
    assert "no detector 'GENN'" in told
    assert "training" not in told.split("error:")[0]


def test_other_weights_under_the_same_name_are_evaluated_again(command):
    outputs = command("objective=oe", *TINY)
    command("objective=oe", *TINY, "seed=1")
    first, second = sorted((outputs / "models").glob("demo-oe-*/weights.safetensors"))
    mine = Path("mine.safetensors")
    accuracies = []
    for file in (first, second):
        mine.write_bytes(file.read_bytes())
        command("objective=oe", *TINY, "checkpoint=mine.safetensors", "study=mine")
        (cell,) = (outputs / "mine").glob("oe-*")
        accuracies.append([r.value for r in read_records(cell / "records.jsonl")])
    assert accuracies[0] != accuracies[1]


def test_a_sweep_over_epsilon_takes_its_arguments_in_any_order(command):
    outputs = command("objective=aloe", "-m", "epsilon=1,2", *TINY)
    records = [r for path in outputs.glob("demo/*/records.jsonl") for r in read_records(path)]
    assert {(r.train_epsilon, r.eval_epsilon) for r in records} == {(1, 1), (2, 2)}
    tables = list(csv.DictReader((outputs / "demo" / "tables.csv").read_text().splitlines()))
    assert {(r["table"], r["epsilon"]) for r in tables if r["method"] == "ALOE"} >= {("table1", "1"), ("table3", "2")}


def test_versions_and_config_say_what_ran(command):
    outputs = command("objective=oe", *TINY)
    (cell,) = (outputs / "demo").glob("oe-*")
    facts = json.loads((cell / "versions.json").read_text())
    assert (
        facts["packages"]["torch"] == torch.__version__.split("+")[0] or facts["packages"]["torch"] == torch.__version__
    )
    assert facts["packages"]["aloe-lightning"] == __version__  # of the code that ran, whatever is installed
    assert "width: 8" in (cell / "config" / "config.yaml").read_text()
