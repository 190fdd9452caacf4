"""Mistakes in the call of `evaluate` that would give wrong numbers without a word, or a traceback."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from aloe_lightning import zoo
from aloe_lightning.attacks import PGD, Strong
from aloe_lightning.errors import UserError
from aloe_lightning.robustness import evaluate


class Moves:
    """Adds a constant to the images, whatever its stated budget."""

    def __init__(self, by=0.5 / 255, epsilon=1, **attributes):
        self.by = by
        vars(self).update({} if epsilon is None else {"epsilon": epsilon}, **attributes)

    def __call__(self, images, loss, *, start=None, generator=None):
        return images + self.by

    def describe(self):
        return "adds a constant"


def images(count=8, seed=0, size=(8, 8)):
    return 0.2 + 0.6 * torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)).eval()


def run(net, *, ood=None, data=None, **options):
    options = {"preset": "quick", "verbose": False, **options}
    return evaluate(net, images() if data is None else data, ood or {"other": images(seed=1)}, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ood": {"..": images()}}, "cannot be called '..'"),
        ({"ood": {1: images()}}, "cannot be called 1"),
        ({"sides": ("both", "both")}, "each once"),
        ({"eps": "8"}, "eps is a number of steps"),
        ({"norm": "l1"}, "norm is linf or l2"),
        ({"eps": 0.5, "norm": "l2"}, r"the radius 0.5 is eps=127.5"),
        ({"eps": 1.0, "norm": "l2"}, r"the radius 1 is eps=255"),
        ({"batch_size": -3}, "batch_size is a positive whole number"),
        ({"batch_size": 2.5}, "batch_size is a positive whole number"),
        ({"size": (8, 8)}, "size is a positive number of pixels, a whole one"),
        ({"seed": -1}, "seed is a whole number, not negative"),
        ({"detectors": {}}, "at least one"),
        ({"detectors": {"a": "msp"}}, "Detector objects by name"),
        ({"detectors": len}, "names or Detector objects"),
        ({"attack": "strong"}, "preset="),
        ({"attack": PGD}, "attack= is an object"),
        ({"attack": lambda images, loss: images}, "attack= is an object"),
        ({"attack": Moves(epsilon=None)}, "must state its budget"),
        ({"attack": Moves(by=0.1, epsilon=8)}, r"moves an image by 25.5/255 \(linf\), but states epsilon 8/255"),
        ({"attack": Moves(by=3, epsilon=999)}, "outside"),
        ({"attack": Moves(by=2 / 255, epsilon=8, norm="l2")}, r"moves an image by 27.7\d*/255 \(l2\)"),
        ({"data": TensorDataset(images())}, r"wrap the TensorDataset in DataLoader\(dataset"),
        ({"data": [{"image": images()}]}, r'yields \(batch\["image"\], batch\["label"\]\)'),
    ],
)
def test_a_mistake_is_one_line(net, options, message):
    with pytest.raises(UserError, match=message):
        run(net, **options)


def test_an_attack_may_return_images_of_the_right_shape_only(net):
    attack = Moves()
    attack.__class__ = type("Cuts", (Moves,), {"__call__": lambda self, images, loss, **_: images[:1]})
    with pytest.raises(UserError, match=r"Cuts returns \(1, 3, 8, 8\); it must return perturbed images \(8, 3, 8, 8\)"):
        run(net, attack=attack)
    result = run(net, attack=Moves(epsilon=np.int64(2)))
    assert result.settings["epsilon"] == 2
    assert run(net, eps=np.int64(2)).settings["epsilon"] == 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda net: lambda x: (lambda s: (s - s.mean()) / s.std(correction=0))(net(x).amax(1)),
            "another output for an image alone",
        ),
        (lambda net: nn.Sequential(net, nn.BatchNorm1d(4, track_running_stats=False)), "alone|but not one"),
        (
            lambda net: lambda x: net(x).amax(1).squeeze() if len(x) > 1 else net(x).amax().squeeze(),
            "squeeze the batch",
        ),
        (lambda net: lambda x: net(x).bfloat16(), "bfloat16, whose two to three digits"),
    ],
)
def test_a_score_must_not_depend_on_the_batch_nor_be_rounded(net, wrong, message):
    with pytest.raises(UserError, match=message):
        run(wrong(net))


def test_a_reversed_score_is_named_before_the_attack(net, capsys):
    def confidence(x):
        return net(x).softmax(1).amax(1)

    spread = {"other": images(seed=1).mul(0).add(0.5)}
    kept = run(confidence, ood=spread)
    reverse = run(lambda x: -confidence(x), ood=spread, verbose=True)
    warned = [any("is the score reversed?" in note for note in result.notes) for result in (kept, reverse)]
    assert sorted(warned) == [False, True]
    assert capsys.readouterr().out.count("warning: the clean AUROC") == warned[1]


def test_a_net_of_the_zoo_is_measured_at_its_own_size_only():
    with pytest.raises(UserError, match="expects images of 32x32 pixels"):
        run(zoo.load("demo-aloe-eps3-small"), size=16)
    resized = run(zoo.load("demo-aloe-eps3-small"), preset="paper")
    assert resized.settings["size"] == "32x32"
    assert any("resized to 32x32 pixels from 8x8" in note for note in resized.notes)


def test_energy_of_log_probabilities_is_refused(net):
    log_probabilities = nn.Sequential(net, nn.LogSoftmax(1))
    with pytest.raises(UserError, match=r"whose energy is 0 on every image, and energy read it"):
        run(log_probabilities, detectors=["energy"])
    assert run(log_probabilities, detectors=["msp"]).scores.detectors == ["msp"]


def test_images_for_fitting_must_have_the_size_of_the_test_images(net):
    wide, classes = images(size=(8, 16)), torch.arange(8) % 4
    options = {"ood": {"other": images(seed=1, size=(8, 16))}, "data": wide, "detectors": ["mahalanobis_last"]}
    with pytest.raises(UserError, match="train and id have images of different sizes, 8x8 and 16x8 pixels: give size="):
        run(net, train=(images(), classes), **options)
    run(net, train=(images(40, size=(8, 16)), torch.arange(40) % 4), **options)
    square = {"detectors": ["mahalanobis_last"], "train": (images(40, size=(16, 16)), torch.arange(40) % 4)}
    assert any("train: resized to 8x8 pixels from 16x16" in note for note in run(net, **square).notes)


def test_stored_batches_of_another_attack_or_score_are_not_used(net, tmp_path):
    first, second = (run(net, attack=Moves(by=k / 255), folder=tmp_path / "attack") for k in (0.2, 0.9))
    assert not np.array_equal(first.scores["msp", "id", "attacked"], second.scores["msp", "id", "attacked"])

    class Rounds(torch.autograd.Function):
        """Rounds to 8 bits, which leaves clean images as they are; the gradient is passed on."""

        @staticmethod
        def forward(context, x):
            return (x * 255).round() / 255

        @staticmethod
        def backward(context, gradient):
            return gradient

    pixels = (images() * 255).round() / 255
    options = {
        "data": pixels,
        "folder": tmp_path / "score",
        "name": "mine",
        "attack": Strong(epsilon=2, preset="quick"),
    }
    run(lambda x: net(x).amax(1), **options)
    run(lambda x: net(x).amax(1), **options)
    with pytest.raises(UserError, match="the score has changed"):
        run(lambda x: net(Rounds.apply(x)).amax(1), **options)
