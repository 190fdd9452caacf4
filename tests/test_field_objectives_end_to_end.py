"""The objectives and nets of the field through the command line, on the tiny demo."""

import csv

import pytest
import torch

from aloe_lightning.errors import UserError
from aloe_lightning.evaluation.records import read_records
from test_end_to_end import TINY, model, stopped, weights


@pytest.mark.slow
def test_atom_goes_on_after_an_interruption_with_the_outliers_it_had_chosen(command, monkeypatch, tmp_path):
    words = (*TINY, "objective=atom", "detector=[msp,rejection]", "trainer.max_steps=-1", "trainer.max_epochs=2")
    with monkeypatch.context() as patch:
        stopped(patch, 4)  # of 3 in an epoch: the net has changed since the choice
        with pytest.raises(SystemExit):
            command(*words)
    state = torch.load(model(tmp_path / "outputs", "atom") / "last.ckpt", weights_only=True)
    assert state["mining"]["epoch"] == 1
    assert len(state["mining"]["chosen"]) == 3 * 64
    outputs = command(*words)
    undisturbed = command(*words, f"paths.outputs={tmp_path / 'undisturbed'}") and tmp_path / "undisturbed"
    expected = weights(undisturbed, "atom")
    assert expected["fc.bias"].shape == (11,)  # ten classes and the rejection class
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(outputs, "atom").items())
    (records,) = (outputs / "demo").glob("atom-*/records.jsonl")
    assert {r.detector for r in read_records(records) if r.metric == "auroc"} == {"msp", "rejection"}


@pytest.mark.slow
def test_all_objectives_share_a_table_without_numbers_of_the_paper(command, tmp_path):
    command(*TINY, "objective=original")
    helper = model(tmp_path / "outputs", "original") / "weights.safetensors"
    command("-m", *TINY, "objective=acet,ntom,aloe", "detector=[msp]")
    outputs = command(*TINY, "objective=halo", f"objective.helper={helper}", "detector=[msp]")
    rows = list(csv.DictReader((outputs / "demo" / "tables.csv").read_text().splitlines()))
    table = [r for r in rows if r["table"] == "table1" and r["metric"] == "auroc" and r["epsilon"] != "0"]
    assert list(dict.fromkeys(r["method"] for r in table)) == ["MSP", "ODIN", "ALOE", "ACET", "HALO", "NTOM"]
    assert not any(r["published"] for r in table)


@pytest.mark.slow
def test_dropout_draws_the_same_in_a_training_that_goes_on(command, monkeypatch, tmp_path):
    words = [*TINY[1:], "objective=oe", "net=wrn", "net.depth=10", "net.width=1", "trainer.max_steps=4"]
    with monkeypatch.context() as patch:
        stopped(patch, 2)
        with pytest.raises(SystemExit):
            command(*words)
    found = weights(command(*words), "oe")
    command(*words, f"paths.outputs={tmp_path / 'undisturbed'}")
    expected = weights(tmp_path / "undisturbed", "oe")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


@pytest.mark.slow
@pytest.mark.parametrize("net", [["net=resnet18"], ["net=wrn", "net.depth=10"]])
def test_detectors_of_features_read_the_new_nets(command, net):
    words = [*TINY[1:], *net, "objective=original", "detector=[knn,vim,react]", "detector.vim.dimension=8"]
    outputs = command(*words, "trainer.max_steps=1")
    records = [r for path in (outputs / "demo").glob("*/records.jsonl") for r in read_records(path)]
    assert {r.net for r in records} == {"resnet18" if len(net) == 1 else "wrn-10-2"}
    assert {r.detector for r in records if r.metric == "auroc"} == {"knn", "vim", "react"}


def test_what_does_not_fit_a_rejection_class_is_said_before_the_training(command, capsys):
    for words, message in (
        (["objective=oe", "detector=[rejection]"], "detector.rejection requires a net with a rejection class"),
        (["objective=atom", "net=timm", "net.num_classes=10"], "net.num_classes is not set here"),
    ):
        with pytest.raises((SystemExit, UserError)) as error:
            command(*words)
        assert message in capsys.readouterr().err + str(error.value)
