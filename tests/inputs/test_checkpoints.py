"""Checkpoints of every common form, and files that are none: the weights of the net, or one clear line."""

import gzip

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18

from aloe_lightning.errors import UserError
from aloe_lightning.nets import SmallNet
from aloe_lightning.storage.weights import load_weights


def new_net(classes=4, width=4):
    return SmallNet(classes, width=width)


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(1)
    return new_net().state_dict()


def under(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def floats(state, convert):
    return {name: convert(t) if t.is_floating_point() else t for name, t in state.items()}


RIGHT = {
    "bare": lambda s: s,
    "parameters": lambda s: floats(s, nn.Parameter),
    "epoch next to tensors": lambda s: {**s, "epoch": 3},
    "network": lambda s: {"network": s, "epoch": 3},
    "params": lambda s: {"params": s},
    "model_state": lambda s: {"model_state": under("module.", s)},
    "running average alone": lambda s: {"state_dict_ema": s},
    "running average next to the weights": lambda s: {"model_ema": floats(s, lambda t: t + 1), "model": s},
    "running average by prefix": lambda s: under("net.", s) | under("ema_model.", floats(s, lambda t: t + 1)),
    "Sequential after a normalisation": lambda s: {"mean": torch.zeros(3), **under("1.", s)},
    "attacker of MadryLab": lambda s: {"model": under("module.model.", s) | under("module.attacker.model.", s)},
    "encoder": lambda s: {"state_dict": under("encoder.", s)},
    "float64": lambda s: floats(s, torch.Tensor.double),
}


@pytest.mark.parametrize("form", RIGHT)
def test_the_weights_are_those_that_were_saved(form, state, tmp_path):
    torch.save(RIGHT[form](state), tmp_path / "w.pt")
    net = new_net()
    load_weights(tmp_path / "w.pt", net)
    assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_become_float32_of_the_same_values(dtype, state, tmp_path):
    torch.save(floats(state, lambda t: t.to(dtype)), tmp_path / "w.pt")
    net = new_net()
    load_weights(tmp_path / "w.pt", net)
    assert all(torch.equal(net.state_dict()[n], t.to(dtype).to(t.dtype)) for n, t in state.items())


@pytest.mark.parametrize("name", ["w.pt", "W.SAFETENSORS", "a b ü.bin", "w"])
@pytest.mark.parametrize("save", [torch.save, save_file])
def test_the_content_decides_not_the_suffix(save, name, state, tmp_path):
    save(dict(state), tmp_path / name)
    net = new_net()
    load_weights(tmp_path / name, net)
    assert torch.equal(net.fc.weight, state["fc.weight"])


def quantized(state):
    return {**state, "fc.bias": torch.quantize_per_tensor(state["fc.bias"], 0.1, 0, torch.qint8)}


REFUSED = {
    "NaN": (lambda s: floats(s, lambda t: t * float("nan")), "conv1.weight has values that are not finite"),
    "infinite": (lambda s: {**s, "fc.bias": s["fc.bias"] / 0}, "fc.bias has values that are not finite"),
    "int8": (lambda s: floats(s, lambda t: t.to(torch.int8)), "conv1.weight is int8 strided"),
    "complex": (lambda s: floats(s, lambda t: t.to(torch.complex64)), "conv1.weight is complex64"),
    "sparse": (lambda s: {**s, "fc.weight": s["fc.weight"].to_sparse()}, "fc.weight is float32 sparse_coo"),
    "meta": (lambda s: {**s, "fc.weight": s["fc.weight"].to("meta")}, "fc.weight is meta"),
    "quantized": (quantized, "fc.bias is qint8"),
    "two nets": (lambda s: under("student.", s) | under("teacher.", floats(s, lambda t: t + 1)), "student., teacher."),
    "two nets of known prefixes": (lambda s: under("net.", s) | under("model.", floats(s, lambda t: t + 1)), "several"),
    "7 classes": (lambda s: new_net(7).state_dict(), "has 7 classes"),
    "7 classes, wrapped": (lambda s: {"model": under("module.", new_net(7).state_dict())}, "has 7 classes"),
    "wider": (lambda s: new_net(4, 8).state_dict(), "of another architecture"),
    "another net": (lambda s: resnet18().state_dict(), "of another architecture"),
    "numpy": (lambda s: {name: t.numpy() for name, t in s.items()}, "more than tensors"),
    "module": (lambda s: new_net(), "more than tensors"),
    "empty": (lambda s: {}, "holds no state dict"),
    "number": (lambda s: 5, "holds no state dict"),
    "list": (lambda s: [s, 3], "holds no state dict"),
    "keys": (lambda s: {"student": s, "teacher": s}, "its keys are student, teacher"),
}


@pytest.mark.parametrize("form", REFUSED)
def test_weights_that_would_give_other_numbers_are_refused(form, state, tmp_path):
    content, part = REFUSED[form]
    torch.save(content(state), tmp_path / "w.pt")
    net = new_net()
    before = net.fc.weight.clone()
    with pytest.raises(UserError) as refusal:
        load_weights(tmp_path / "w.pt", net)
    assert part in str(refusal.value)
    assert torch.equal(net.fc.weight, before), "nothing was loaded"


def numpy_file(path):
    with path.open("wb") as stream:
        np.save(stream, np.ones(3))


FILES = {
    "missing": (lambda path: None, "does not exist"),
    "folder": (lambda path: path.mkdir(), "is a folder"),
    "loop": (lambda path: path.symlink_to(path), "does not exist"),
    "empty": (lambda path: path.write_bytes(b""), "it is empty"),
    "page": (lambda path: path.write_bytes(b"\n<!DOCTYPE html>"), "a web page"),
    "lfs": (lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    "numpy": (numpy_file, "a NumPy array"),
    "gzip": (lambda path: path.write_bytes(gzip.compress(b"x")), "compressed by gzip"),
    "noise": (lambda path: path.write_bytes(bytes(range(256))), "truncated"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_checkpoint_is_said_to_be_what_it_is(kind, tmp_path):
    make, part = FILES[kind]
    make(tmp_path / "w.pt")
    with pytest.raises(UserError) as refusal:
        load_weights(tmp_path / "w.pt", new_net())
    assert str(tmp_path / "w.pt") in str(refusal.value)
    assert part in str(refusal.value)
    assert "\n" not in str(refusal.value)
