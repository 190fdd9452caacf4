import copy

import pytest
import torch

from aloe_lightning.errors import UserError
from aloe_lightning.nets import Classifier, DenseNet, Normalize, SmallNet


def count(net):
    return sum(parameter.numel() for parameter in net.parameters())


def test_densenet_is_the_papers():
    assert count(DenseNet(10)) == 769_162


def test_small_net_has_the_stated_size():
    assert count(SmallNet(10)) == 303_706


def test_logits_equal_the_authors(golden_net, golden_images, reference):
    with torch.no_grad():
        for side in ("id", "ood"):
            torch.testing.assert_close(
                golden_net(golden_images[side]), torch.from_numpy(reference[f"{side}_clean_logits"]), atol=1e-4, rtol=0
            )


@pytest.mark.parametrize("attack", ["conf_eps1", "conf_eps2", "conf_eps4", "classifier_eps1"])
def test_logits_of_the_authors_attacked_images_equal_theirs(golden_net, golden_images, reference, attack):
    for side in ("id", "ood"):
        if f"{side}_{attack}_delta255" in reference:
            delta = torch.from_numpy(reference[f"{side}_{attack}_delta255"]).float() / 255
            with torch.no_grad():
                logits = golden_net(golden_images[side] + delta)
            torch.testing.assert_close(
                logits, torch.from_numpy(reference[f"{side}_{attack}_logits"]), atol=1e-4, rtol=0
            )


def test_features_are_channel_means_of_the_four_layers(golden_net, golden_images, reference):
    with torch.no_grad():
        features = golden_net.features(golden_images["id"])
    assert [f.shape[1] for f in features] == [24, 108, 150, 342]
    logits = torch.from_numpy(reference["id_clean_logits"])
    torch.testing.assert_close(golden_net.fc(features[-1]), logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("init", "fan"), [("kaiming", 48 * 1 * 1), ("authors", 16)])
def test_initialisation_has_the_stated_spread(init, fan):
    torch.manual_seed(0)
    weights = DenseNet(10, init=init).block3.layer[15].conv1.weight
    assert weights.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.02)


def test_depth_that_does_not_fit_says_which_do():
    with pytest.raises(ValueError, match=r"6 n \+ 4.*got 99"):
        DenseNet(10, depth=99)


@pytest.mark.parametrize("net", [DenseNet(7, depth=10), SmallNet(7, width=4)])
def test_normalisation_is_inside_and_not_in_the_state_dict(net, images):
    assert not [name for name in net.state_dict() if "normalize" in name]
    other = type(net)(
        7, **({"depth": 10} if isinstance(net, DenseNet) else {"width": 4}), mean=(0, 0, 0), std=(1, 1, 1)
    )
    other.load_state_dict(net.state_dict())
    torch.testing.assert_close(other.eval()((images - 0.5) / 0.25), net.eval()(images), atol=1e-5, rtol=1e-5)


def test_standard_deviations_are_positive():
    with pytest.raises(ValueError, match="std must be above 0"):
        Normalize((0.5, 0.5, 0.5), (0.2, 0, 0.2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "num_classes.*greater than 0.*got 0"),
        ({"num_classes": 10, "depth": 11}, r"6 n \+ 4.*got 11"),
        ({"num_classes": 10, "depth": -2}, "depth.*greater than 0"),
        ({"num_classes": 10, "reduction": 1.5}, "reduction.*less than or equal to 1"),
        ({"num_classes": 10, "mean": (0.5, 0.5)}, "mean.*at least 3"),
        ({"num_classes": 10, "std": (0.5, 0.5, 0.5, 0.5)}, "std.*at most 3"),
        ({"num_classes": 10, "init": "xavier"}, "init.*'kaiming' or 'authors'"),
    ],
)
def test_arguments_out_of_range_are_errors(arguments, message):
    with pytest.raises(UserError, match=message):
        DenseNet(**arguments)


@pytest.mark.parametrize("net", [DenseNet(7, depth=10), SmallNet(7, width=4)], ids=lambda net: type(net).__name__)
def test_a_net_is_a_classifier_and_copies_with_its_weights(net, images):
    assert isinstance(net, Classifier)
    twin = copy.deepcopy(net.eval())
    assert torch.equal(twin(images), net(images))
    assert [f.ndim for f in twin.features(images)] == [2, 2, 2, 2]


def test_a_classifier_must_have_features():
    class Incomplete(Classifier):
        def forward(self, images):
            return images

    with pytest.raises(TypeError, match="features"):
        Incomplete()
