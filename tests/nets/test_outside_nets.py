"""Nets of libraries and files: normalisation, size, features."""

import importlib.util
import os

import pytest
import torch
from torch import nn

from aloe_lightning.errors import UserError
from aloe_lightning.nets import SavedNet, SmallNet, Timm, Torchvision, WithFeatures, last_layer
from aloe_lightning.nets.saved import sizes_of


@pytest.fixture(scope="module")
def pictures():
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_torchvision_normalises_by_the_librarys_values(pictures):
    net = Torchvision(5, model="resnet18").eval()
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        assert torch.allclose(net(pictures), net.net((pictures - mean) / std), atol=1e-6)
    assert sizes_of(net) == (224, 224)
    assert "ResNet18_Weights" in net.preprocessing_source


def test_given_values_replace_the_librarys():
    net = Torchvision(5, mean=[0.5] * 3, std=[0.25] * 3, size=64)
    assert net.normalize.mean.flatten().tolist() == [0.5] * 3
    assert sizes_of(net) == (64, 64)
    with pytest.raises(UserError, match="belong together"):
        Torchvision(5, mean=[0.5] * 3)
    with pytest.raises(UserError, match="no classifier 'resnet17'"):
        Torchvision(5, model="resnet17")


def test_the_default_features_are_the_input_of_the_last_linear_layer(pictures):
    net = Torchvision(5, model="resnet18").eval()
    with torch.no_grad():
        (features,) = net.features(pictures)
        assert features.shape == (3, 512)
        assert torch.allclose(net.net.fc(features), net(pictures), atol=1e-6)


def test_named_layers_are_channel_means_of_their_maps(pictures):
    net = Torchvision(5, model="resnet18", layers=["layer1", "layer3"]).eval()
    maps = {}
    for name in ("layer1", "layer3"):
        getattr(net.net, name).register_forward_hook(lambda m, i, out, name=name: maps.__setitem__(name, out.clone()))
    with torch.no_grad():
        net(pictures)
        first, second = net.features(pictures)
    assert torch.allclose(first, maps["layer1"].mean((2, 3)), atol=1e-5)
    assert torch.allclose(second, maps["layer3"].mean((2, 3)), atol=1e-5)
    with pytest.raises(UserError, match="no layer 'layer9'"):
        Torchvision(5, model="resnet18", layers=["layer9"])


def test_a_net_without_a_last_linear_layer_is_refused():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    with pytest.raises(UserError, match=r"not the output of a torch\.nn\.Linear"):
        last_layer(net, torch.rand(2, 3, 8, 8))
    later = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.Softplus())  # the head is not the last operation
    with pytest.raises(UserError, match=r"not the output of a torch\.nn\.Linear"):
        last_layer(later, torch.rand(2, 3, 2, 2))


def test_features_of_an_own_net_leave_no_hook():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 4))
    images = torch.rand(2, 3, 2, 2)
    (features,) = WithFeatures(net).features(images)
    assert torch.equal(features, net[:3](images))
    assert not net[3]._forward_hooks


@pytest.fixture
def exported(tmp_path):
    net = SmallNet(4, width=4).eval()
    images = torch.rand(2, 3, 32, 32)
    program = torch.export.export(net, (images,), dynamic_shapes=({0: torch.export.Dim("n")},))
    torch.export.save(program, tmp_path / "net.pt2")
    return net, tmp_path / "net.pt2"


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_programs_give_the_logits_and_gradients_of_their_nets(exported, tmp_path):
    net, path = exported
    torch.jit.trace(net, torch.rand(2, 3, 32, 32)).save(tmp_path / "net.ts")
    images = torch.rand(5, 3, 32, 32, requires_grad=True)
    (expected,) = torch.autograd.grad(net(images).logsumexp(1).sum(), images)
    for file in (path, tmp_path / "net.ts"):
        saved = SavedNet(str(file)).eval()
        assert torch.allclose(saved(images), net(images), atol=1e-5)
        (gradient,) = torch.autograd.grad(saved(images).logsumexp(1).sum(), images)
        assert torch.allclose(gradient, expected, atol=1e-5)


def test_an_export_with_a_fixed_batch_says_so(tmp_path):
    net = SmallNet(4, width=4).eval()
    torch.export.save(torch.export.export(net, (torch.rand(2, 3, 32, 32),)), tmp_path / "net.pt2")
    with pytest.raises(UserError, match="dynamic_shapes"):
        SavedNet(str(tmp_path / "net.pt2")).eval()(torch.rand(5, 3, 32, 32))


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("pickled-code-was-run",)


def test_pickled_objects_in_an_export_are_refused(exported, tmp_path, monkeypatch):
    import io
    import zipfile

    monkeypatch.chdir(tmp_path)
    buffer = io.BytesIO()
    torch.save((Malicious(),), buffer)
    with zipfile.ZipFile(exported[1]) as source, zipfile.ZipFile(tmp_path / "evil.pt2", "w") as target:
        for name in source.namelist():
            target.writestr(name, buffer.getvalue() if name.endswith("sample_inputs/model.pt") else source.read(name))
    with pytest.raises(UserError, match="pickled objects"):
        SavedNet(str(tmp_path / "evil.pt2"))
    assert not (tmp_path / "pickled-code-was-run").exists()


def test_a_state_dict_is_no_program(tmp_path):
    torch.save(SmallNet(4, width=4).state_dict(), tmp_path / "weights.pt")
    with pytest.raises(UserError, match="neither TorchScript nor"):
        SavedNet(str(tmp_path / "weights.pt"))


def test_timm_is_named_where_it_is_missing():
    if importlib.util.find_spec("timm"):
        net = Timm(3, model="resnet18").eval()
        assert net(torch.rand(2, 3, 64, 64)).shape == (2, 3)
        assert sizes_of(net) == (224, 224)
        with pytest.raises(UserError, match="no model 'resnet17x'"):
            Timm(3, model="resnet17x")
    else:
        with pytest.raises(UserError, match=r"aloe-lightning\[timm\]"):
            Timm(3)
