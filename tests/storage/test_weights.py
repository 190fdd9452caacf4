"""Checkpoints of other programs: which part of a file is the net's state dict."""

import argparse
import logging
import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from aloe_lightning.errors import UserError
from aloe_lightning.nets import SmallNet, Torchvision
from aloe_lightning.storage.weights import load_weights, save_weights


@pytest.fixture
def trained():
    torch.manual_seed(3)
    return SmallNet(4, width=4)


def renamed(net, prefix):
    return {prefix + name: tensor for name, tensor in net.state_dict().items()}


def assert_equal_weights(net, other):
    for name, tensor in other.state_dict().items():
        assert torch.equal(net.state_dict()[name], tensor), name


FORMS = {
    "plain": lambda net: net.state_dict(),
    "state_dict": lambda net: {"state_dict": net.state_dict(), "epoch": 3},
    "model_state_dict": lambda net: {"model_state_dict": net.state_dict(), "optimizer": {"lr": 0.1}},
    "model": lambda net: {"model": net.state_dict()},
    "kuangliu": lambda net: {"net": renamed(net, "module."), "acc": np.float64(95.1), "epoch": 199},
    "module": lambda net: {"module": renamed(net, "_orig_mod.module.")},
    "lightning": lambda net: {"state_dict": renamed(net, "net._orig_mod."), "hparams": argparse.Namespace(lr=0.1)},
    "backbone": lambda net: {"state_dict": renamed(net, "model.backbone.")},
    "nested": lambda net: {"model": {"state_dict": renamed(net, "module.")}},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_common_form_gives_the_same_weights(form, trained, tmp_path):
    torch.save(FORMS[form](trained), tmp_path / "weights.pt")
    net = SmallNet(4, width=4)
    load_weights(tmp_path / "weights.pt", net)
    assert_equal_weights(net, trained)


@pytest.mark.parametrize("prefix", ["", "model.", "module.net."])
def test_safetensors_with_and_without_a_prefix(prefix, trained, tmp_path):
    save_file(renamed(trained, prefix), tmp_path / "weights.safetensors")
    net = SmallNet(4, width=4)
    load_weights(tmp_path / "weights.safetensors", net)
    assert_equal_weights(net, trained)


def test_own_weights_come_back(trained, tmp_path):
    save_weights(tmp_path / "weights.safetensors", trained, {"seed": 1})
    net = SmallNet(4, width=4)
    load_weights(tmp_path / "weights.safetensors", net)
    assert_equal_weights(net, trained)


def test_the_names_of_a_net_inside_a_wrapper_are_found_without_the_wrapper(tmp_path):
    net = Torchvision(3, model="resnet18")
    torch.save({"state_dict": renamed(net.net, "module.")}, tmp_path / "weights.pt")
    other = Torchvision(3, model="resnet18")
    load_weights(tmp_path / "weights.pt", other)
    assert_equal_weights(other, net)


def test_a_removed_prefix_and_a_conversion_are_said(trained, tmp_path, caplog):
    state = {name: t.half() if t.is_floating_point() else t for name, t in renamed(trained, "module.").items()}
    torch.save({"net": state}, tmp_path / "weights.pt")
    net = SmallNet(4, width=4)
    with caplog.at_level(logging.INFO):
        load_weights(tmp_path / "weights.pt", net)
    assert "under 'net'" in caplog.text
    assert "'module.'" in caplog.text
    assert "torch.float16" in caplog.text
    assert net.fc.weight.dtype == torch.float32
    assert torch.equal(net.fc.weight, trained.fc.weight.half().float())


def test_tensors_of_a_loss_next_to_the_net_are_left_out_and_said(trained, tmp_path, caplog):
    state = {**renamed(trained, "model."), "criterion.centres": torch.ones(2)}
    torch.save({"state_dict": state}, tmp_path / "weights.pt")
    net = SmallNet(4, width=4)
    with caplog.at_level(logging.INFO):
        load_weights(tmp_path / "weights.pt", net)
    assert "leaving out 1 further" in caplog.text
    assert_equal_weights(net, trained)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_layer_too_much_or_too_little_is_an_error(prefix, trained, tmp_path):
    state = renamed(trained, prefix)
    torch.save({**state, prefix + "fc2.weight": torch.ones(1)}, tmp_path / "more.pt")
    del state[prefix + "conv1.weight"]
    torch.save(state, tmp_path / "less.pt")
    with pytest.raises(UserError, match=r"1 unknown \(fc2\.weight\)"):
        load_weights(tmp_path / "more.pt", SmallNet(4, width=4))
    with pytest.raises(UserError, match=r"1 missing \(conv1\.weight\)"):
        load_weights(tmp_path / "less.pt", SmallNet(4, width=4))


def test_old_checkpoints_without_batch_counts_are_complete(trained, tmp_path):
    state = {name: t for name, t in trained.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "weights.pt")
    net = SmallNet(4, width=4)
    load_weights(tmp_path / "weights.pt", net)
    assert torch.equal(net.fc.weight, trained.fc.weight)


def test_another_number_of_classes_is_named(trained, tmp_path):
    torch.save(trained.state_dict(), tmp_path / "weights.pt")
    with pytest.raises(UserError, match=r"has 4 classes \(fc\.weight\), net=SmallNet has 7"):
        load_weights(tmp_path / "weights.pt", SmallNet(7, width=4))


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("pickled-code-was-run",)


def test_pickled_objects_are_refused_and_never_run(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": trained.state_dict(), "extra": Malicious()}, tmp_path / "evil.pt")
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    for name in ("evil.pt", "module.pt"):
        with pytest.raises(UserError, match="holds more than tensors"):
            load_weights(tmp_path / name, SmallNet(4, width=4))
    assert not (tmp_path / "pickled-code-was-run").exists()


def test_a_file_without_a_state_dict_names_its_keys(tmp_path):
    torch.save({"weights": {"a": 1}, "epoch": 3}, tmp_path / "weights.pt")
    with pytest.raises(UserError, match="its keys are weights, epoch"):
        load_weights(tmp_path / "weights.pt", SmallNet(4, width=4))
