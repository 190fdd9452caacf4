"""`trainer.precision=auto`: the faster arithmetic is measured once for a training, which keeps it."""

import json

import pytest
import torch

from aloe_lightning.nets import SmallNet
from aloe_lightning.storage.models import TrainedModel
from aloe_lightning.training import precision
from test_end_to_end import TINY

SHAPE = (2, 3, 32, 32)
AUTO = ("objective=oe", *TINY, "trainer.precision=auto")


@pytest.fixture
def with_bfloat16(monkeypatch):
    monkeypatch.setattr(precision, "processor_flags", lambda: "flags : avx512_bf16")


@pytest.mark.parametrize(
    ("float32", "bfloat16", "name"), [(1.0, 0.5, "bf16-mixed"), (0.5, 1.0, "32-true"), (1.0, 0.95, "32-true")]
)
def test_bfloat16_has_to_be_clearly_faster(with_bfloat16, monkeypatch, float32, bfloat16, name):
    monkeypatch.setattr(precision, "_seconds", lambda net, images, is_bfloat16: bfloat16 if is_bfloat16 else float32)
    assert precision.measured_precision(SmallNet(3, width=8), SHAPE, torch.device("cpu"))["precision"] == name


def test_measuring_changes_neither_the_net_nor_random_numbers(with_bfloat16, monkeypatch):
    monkeypatch.setattr(precision, "SECONDS", 0.01)
    net = SmallNet(3, width=8)
    before, state = {name: value.clone() for name, value in net.state_dict().items()}, torch.get_rng_state()
    reason = precision.measured_precision(net, SHAPE, torch.device("cpu"))["reason"]
    assert reason.startswith("forward and backward of 2 images take ")
    assert reason.count(" ms in ") == 2
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_without_bfloat16_instructions_nothing_is_measured(monkeypatch):
    monkeypatch.setattr(precision, "processor_flags", lambda: "flags : avx2")
    result = precision.measured_precision(SmallNet(3, width=8), SHAPE, torch.device("cpu"))
    assert result == {
        "precision": "32-true",
        "reason": "this processor has no bfloat16 instructions, which are slow without",
    }


def test_the_decision_is_kept_with_the_net_and_the_result_says_it(command, monkeypatch):
    decisions = iter([{"precision": "32-true", "reason": "first"}, {"precision": "bf16-mixed", "reason": "second"}])
    monkeypatch.setattr(precision, "measured_precision", lambda *_: next(decisions))
    outputs = command(*AUTO)
    (folder,) = outputs.glob("models/demo-oe-*")
    assert json.loads(TrainedModel(folder).precision.read_text())["reason"] == "first"
    (folder / "model.json").unlink()  # as if the training had been interrupted
    command(*AUTO, "recompute=evaluation")
    metadata = TrainedModel(folder).metadata
    assert (metadata["precision"], metadata["threads"]) == ("32-true", torch.get_num_threads())
    (cell,) = (outputs / "demo").glob("oe-*")
    facts = json.loads((cell / "versions.json").read_text())
    assert (facts["train_precision"], facts["precision"], facts["threads"]) == (
        "32-true",
        "float32",
        torch.get_num_threads(),
    )
    assert next(decisions)["reason"] == "second", "a second decision was not made"
