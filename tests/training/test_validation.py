"""Validation during a training: the values of the ordinary evaluation, and the weights of a training without it."""

import csv

import pytest
import torch

from aloe_lightning.data import BatchSizes, Demo, DemoOOD, DemoOutliers, ImageSet, RobustOODData
from aloe_lightning.evaluation.evaluate import EvaluationSettings
from aloe_lightning.evaluation.records import read_records
from aloe_lightning.nets import SmallNet
from aloe_lightning.objectives import OE
from aloe_lightning.storage.cells import file_digest
from aloe_lightning.training.validation import Validation, ValidationSettings, validation_images
from processes import ask_amid_training, exit_code, started
from test_end_to_end import TINY

EPOCH = 3  # batches of TINY
TWO_EPOCHS = (*TINY, "trainer.max_steps=6", "checkpoint_seconds=1000")
VALIDATED = ("validation.every_n_epochs=1", "validation.images=15")
METRICS = ("accuracy", "auroc_clean", "auroc_attacked")


def curves(outputs):
    """The logged values of each metric by step."""
    (file,) = outputs.glob("demo/*/metrics.csv")
    rows = list(csv.DictReader(file.read_text().splitlines()))
    return {m: {int(row["step"]): float(row[f"val/{m}"]) for row in rows if row.get(f"val/{m}")} for m in METRICS}


def weights(outputs):
    (file,) = outputs.glob("models/*/weights.safetensors")
    return file_digest(file)


@pytest.mark.parametrize("objective", ["aloe", pytest.param("atom", marks=pytest.mark.slow)])
def test_the_values_after_the_last_step_are_those_of_the_evaluation_on_the_same_images(command, capsys, objective):
    detector = {"aloe": "msp", "atom": "rejection"}[objective]
    outputs = command(
        *(f"objective={objective}", f"detector={detector}", *TWO_EPOCHS, *VALIDATED, "attack.eval.steps=4"),
        *("evaluation.max_id=15", "evaluation.max_ood=15", "evaluation.batch_size=7"),
    )
    (file,) = outputs.glob("demo/*/records.jsonl")
    records = read_records(file)
    first = next(record.ood for record in records if record.ood)
    expected = {(r.side, r.metric): r.value for r in records if r.ood in ("", first)}
    last = {name: values[2 * EPOCH - 1] for name, values in curves(outputs).items()}
    accuracy, clean, attacked = expected["none", "accuracy"], expected["none", "auroc"], expected["both", "auroc"]
    assert clean > attacked
    assert last == pytest.approx({"accuracy": accuracy, "auroc_clean": clean, "auroc_attacked": attacked}, abs=1e-6)
    assert all(list(values) == [EPOCH - 1, 2 * EPOCH - 1] for values in curves(outputs).values())
    line = f"epoch 2: accuracy {accuracy:.1%} of 15 test images; AUROC {clean:.1%} clean, {attacked:.1%} attacked"
    assert f"{line}, against 15 images of {first}".replace("%", " %") in capsys.readouterr().err


@pytest.mark.parametrize("resumed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_weights_and_the_results_are_those_of_a_training_without_it(command, tmp_path, resumed):
    """Also of one that is stopped in between; without validation test_stopping.py holds that by default."""
    outputs = {name: tmp_path / name for name in ("without", "with")}
    words = {name: ("objective=aloe", *TWO_EPOCHS, f"paths.outputs={folder}") for name, folder in outputs.items()}
    if resumed:
        job = started([*words["with"], *VALIDATED], tmp_path, ask_amid_training)
        assert exit_code(job) == 143
        assert "asked to stop: saved step 5 in " in (tmp_path / "log").read_text()
    command(*words["without"])
    command(*words["with"], *VALIDATED)
    assert weights(outputs["without"]) == weights(outputs["with"])
    cells = {name: next(folder.glob("demo/*/records.jsonl")) for name, folder in outputs.items()}
    assert len({cell.read_text() for cell in cells.values()}) == 1
    assert len({cell.parent.name for cell in cells.values()}) == 1, "it is in no fingerprint"
    assert not any(curves(outputs["without"]).values())
    assert all(2 * EPOCH - 1 in values for values in curves(outputs["with"]).values())


class HoldsOut(Demo):
    """Holds a validation set out of training, as GTSRB does."""

    def excluded_from_training(self):
        return {"validation": ImageSet(torch.zeros(3, 3, 32, 32, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))}


def data_of(inliers):
    sizes = BatchSizes(inliers=4, outliers=4)
    ood = {"ood": DemoOOD(kind="clouds", count=30)}
    return RobustOODData(inliers, DemoOutliers(count=4), ood, batch=sizes, seed=0)


def test_images_that_the_data_hold_out_of_training_come_before_test_images():
    assert [(split, len(images)) for split, images in map(validation_images, map(data_of, (Demo(), HoldsOut())))] == [
        ("test", 400),
        ("validation", 3),
    ]


def test_neither_the_net_nor_random_numbers_change():
    objective = OE(SmallNet(10, width=8))
    callback = Validation(ValidationSettings(images=20), data_of(Demo()), 2, EvaluationSettings())
    state = {name: tensor.clone() for name, tensor in objective.net.state_dict().items()}
    numbers = torch.get_rng_state()
    modes = [module.training for module in objective.modules()]
    values = callback.values(objective)
    assert callback.values(objective) == values
    assert torch.equal(torch.get_rng_state(), numbers)
    assert [module.training for module in objective.modules()] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in objective.net.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in objective.net.parameters())


def test_scores_that_are_not_finite_are_a_warning_and_no_value(command, capsys):
    with pytest.raises(SystemExit):  # the training itself refuses to store such weights
        command("objective=oe", *TWO_EPOCHS, *VALIDATED, "optim.lr=1e30", "trainer.log_every_n_steps=100")
    printed = " ".join(capsys.readouterr().err.split())
    assert "no validation after epoch 1: val gives scores on id that are not finite" in printed
    assert "weights that are not finite" in printed


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "validation.every_n_epochs=-1",
            "validation.every_n_epochs: input should be greater than or equal to 0",
        ),
        ("validation.images=0", "validation.images: input should be greater than 0 (got 0)"),
        ("+validation.every=1", "validation.every is unknown"),
    ],
)
def test_a_bad_value_is_an_error_before_anything_is_read(command, capsys, word, message):
    with pytest.raises(SystemExit) as end:
        command(*TINY, word)
    assert end.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_an_l2_attack_has_no_validation(command, capsys):
    with pytest.raises(SystemExit):
        command(*TINY, *VALIDATED, "attack=strong", "attack.eval.norm=l2", "attack.train.steps=1")
    assert "validation attacks in the norm linf, attack.eval.norm is l2" in " ".join(capsys.readouterr().err.split())
