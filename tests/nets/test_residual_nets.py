"""ResNet-18 and the wide residual nets against their published sizes and a slow forward pass in plain functions."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from aloe_lightning.errors import UserError
from aloe_lightning.nets import ResNet18, WideResNet, last_layer


def count(net):
    return sum(parameter.numel() for parameter in net.parameters())


def test_parameter_counts_are_the_published_ones():
    with torch.device("meta"):
        assert count(ResNet18(10)) == 11_173_962
        assert count(ResNet18(100)) == 11_220_132
        assert count(WideResNet(10)) == 2_243_546
        assert count(WideResNet(100)) == 2_255_156
        assert count(WideResNet(10, depth=28, width=10)) == 36_479_194


@pytest.fixture(scope="module")
def nets():
    """Both nets in eval mode, with statistics and affine parameters of BatchNorm that a wrong order would show."""
    torch.manual_seed(0)
    made = {"resnet18": ResNet18(7).eval(), "wrn": WideResNet(7, depth=16, width=2).eval()}
    for net in made.values():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.3, 0.3)
                nn.init.uniform_(module.running_var, 0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.2, 0.2)
    return made


def normalised(state, name, x):
    """BatchNorm by its formula."""
    mean, var, weight, bias = (
        state[f"{name}.{key}"].view(1, -1, 1, 1) for key in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias


def resnet18_by_hand(state, images):
    """The maps after the stem and the four stages, and the logits."""
    x = F.conv2d((images - 0.5) / 0.25, state["net.conv1.weight"], padding=1)
    maps = [normalised(state, "net.bn1", x).relu()]
    for stage in range(1, 5):
        x = maps[-1]
        for block in range(2):
            name, stride = f"net.layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            out = F.conv2d(x, state[f"{name}.conv1.weight"], stride=stride, padding=1)
            out = F.conv2d(normalised(state, f"{name}.bn1", out).relu(), state[f"{name}.conv2.weight"], padding=1)
            if stride == 2:
                x = normalised(
                    state, f"{name}.downsample.1", F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=2)
                )
            x = (normalised(state, f"{name}.bn2", out) + x).relu()
        maps.append(x)
    return maps, maps[-1].mean((2, 3)) @ state["net.fc.weight"].T + state["net.fc.bias"]


def wide_resnet_by_hand(state, images, blocks=2):
    """The maps after the first convolution, two stages and the last ReLU, and the logits."""
    x = F.conv2d((images - 0.5) / 0.25, state["conv1.weight"], padding=1)
    maps = [x]
    for stage in range(1, 4):
        for block in range(blocks):
            name, stride = f"stage{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            active = normalised(state, f"{name}.bn1", x).relu()
            out = F.conv2d(active, state[f"{name}.conv1.weight"], stride=stride, padding=1)
            out = F.conv2d(normalised(state, f"{name}.bn2", out).relu(), state[f"{name}.conv2.weight"], padding=1)
            x = out + (F.conv2d(active, state[f"{name}.shortcut.weight"], stride=stride) if block == 0 else x)
        maps.append(x)
    maps[-1] = normalised(state, "bn1", x).relu()
    return maps, maps[-1].mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]


BY_HAND = {"resnet18": resnet18_by_hand, "wrn": wide_resnet_by_hand}
SHAPES = {
    "resnet18": [(64, 32), (64, 32), (128, 16), (256, 8), (512, 4)],
    "wrn": [(16, 32), (32, 32), (64, 16), (128, 8)],
}


@pytest.mark.parametrize("name", BY_HAND)
def test_logits_and_features_equal_the_forward_pass_by_hand(name, nets, images):
    net = nets[name]
    with torch.no_grad():
        maps, logits = BY_HAND[name](net.state_dict(), images[:2])
        torch.testing.assert_close(net(images[:2]), logits, atol=1e-4, rtol=1e-4)
        assert [tuple(values.shape[1:]) for values in maps] == [(c, size, size) for c, size in SHAPES[name]]
        for features, values in zip(net.features(images[:2]), maps, strict=True):
            torch.testing.assert_close(features, values.mean((2, 3)), atol=1e-4, rtol=1e-4)
        last = last_layer(net, images[:2])  # which knn, vim and react read
        torch.testing.assert_close(last.features, maps[-1].mean((2, 3)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", BY_HAND)
def test_channels_last_changes_nothing_but_rounding(name, nets, images):
    net = nets[name]
    x = images[:2].clone().requires_grad_()
    values, gradients = [], []
    for layout in (torch.contiguous_format, torch.channels_last):
        values.append(net.to(memory_format=layout)(x))
        gradients.append(torch.autograd.grad(values[-1].logsumexp(1).sum(), x)[0])
    net.to(memory_format=torch.contiguous_format)
    torch.testing.assert_close(*values, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-3)


def test_convolutions_have_the_stated_spread():
    torch.manual_seed(0)
    resnet, wide = ResNet18(10), WideResNet(10)
    layers = {resnet.net.conv1: 64, resnet.net.layer3[1].conv2: 256, wide.stage3[3].conv1: 128}
    for layer, channels in layers.items():
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / (9 * channels)), rel=0.05)
    assert not wide.fc.bias.any()


def test_dropout_is_between_the_convolutions_and_in_training_alone():
    torch.manual_seed(0)
    net = WideResNet(10, depth=10, width=1, dropout=0.5)
    images = torch.rand(2, 3, 32, 32)
    net.eval()
    assert torch.equal(net(images), net(images))
    net.train()
    zeros = []
    net.stage1[0].conv2.register_forward_pre_hook(lambda module, args: zeros.append((args[0] == 0).float().mean()))
    net(images)
    assert zeros[0] == pytest.approx(0.75, abs=0.03)  # half of the activations are below zero, half of the rest dropped


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"depth": 41}, r"6 n \+ 4.*got 41"), ({"dropout": 1}, "dropout.*less than 1"), ({"width": 0}, "width.*greater")],
)
def test_arguments_out_of_range_are_errors(arguments, message):
    with pytest.raises(UserError, match=message):
        WideResNet(10, **arguments)
