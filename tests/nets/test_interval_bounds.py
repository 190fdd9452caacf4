"""Guaranteed bounds of confidence: brute force over corners, sampling of every operation, refusals."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from aloe_lightning.attacks import Strong, frozen_eval
from aloe_lightning.detectors import MSP
from aloe_lightning.nets import ConfidenceBounds, Normalize, SmallNet, Unbounded


class Residual(nn.Module):
    """Convolutions, BatchNorm, a sum, a concatenation, pools and a view, as functions and methods."""

    def __init__(self):
        super().__init__()
        self.normalize = Normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.bn, self.act, self.fc = nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Linear(8, 3)
        self.bn.running_mean.normal_()
        self.bn.running_var.uniform_(0.5, 2)
        nn.init.normal_(self.bn.weight)

    def forward(self, x):
        x = self.conv1(self.normalize(x))
        y = self.bn(self.conv2(self.act(x)))
        y += x
        z = torch.cat([F.max_pool2d(y, 2), F.avg_pool2d(F.relu(y), 2)], 1)
        return self.fc(F.adaptive_avg_pool2d(z, 1).view(z.size(0), -1))


@pytest.fixture
def residual():
    torch.manual_seed(1)
    return Residual().eval()


def tiny_images(count):
    return torch.rand(count, 3, 2, 2, generator=torch.Generator().manual_seed(2))


def corners(image, eps):
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=image.numel())))
    return (image + eps * signs.view(-1, *image.shape)).clamp(0, 1)


def largest_probability(net, images):
    with torch.no_grad():
        return net(images).double().softmax(1).amax(1)


def test_bounds_of_a_linear_net_of_two_classes_are_the_extremes_over_all_corners():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).eval()
    images = tiny_images(4)
    low, high = ConfidenceBounds(net)(images, 0.1)
    for k, image in enumerate(images):
        with torch.no_grad():
            found = net(corners(image, 0.1)).double().softmax(1)
        assert float(high[k]) == pytest.approx(float(found.amax()), rel=1e-5)
        # The larger of both probabilities is at least the larger of their lowest values.
        assert float(low[k]) == pytest.approx(float(found.amin(0).amax()), rel=1e-5)


@pytest.mark.parametrize("eps", [0.005, 0.05])
def test_no_corner_and_no_sample_of_the_ball_leaves_the_bounds(residual, eps):
    images = tiny_images(3)
    low, high = ConfidenceBounds(residual)(images, eps)
    draws = torch.Generator().manual_seed(3)
    for k, image in enumerate(images):
        inside = (image + eps * (2 * torch.rand(3000, 3, 2, 2, generator=draws) - 1)).clamp(0, 1)
        for tried in (corners(image, eps), inside):
            found = largest_probability(residual, tried)
            assert low[k] <= found.amin() + 1e-6
            assert high[k] >= found.amax() - 1e-6
    assert (high < 1).all()
    assert (low > 1 / 3 - 0.3).all()


def test_a_ball_without_radius_has_the_score_itself(residual):
    for net, images in ((residual, tiny_images(5)), (SmallNet(10, width=8).eval(), torch.rand(2, 3, 32, 32))):
        for bound in ConfidenceBounds(net)(images, 0.0):
            torch.testing.assert_close(bound, largest_probability(net, images), rtol=1e-4, atol=1e-6)


def test_logits_that_no_linear_layer_gives_have_wider_bounds(residual):
    images = tiny_images(3)
    low, high = ConfidenceBounds(residual)(images, 0.02)
    wide_low, wide_high = ConfidenceBounds(nn.Sequential(residual, nn.Identity()).eval())(images, 0.02)
    assert (wide_high > high).all()
    assert (wide_low < low).all()


def test_the_strong_attack_stays_within_the_bounds():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 4, 4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 16), nn.ReLU(), nn.Linear(16, 4)
    ).eval()
    images = torch.rand(8, 3, 16, 16)
    for membership, sign in (("id", -1), ("ood", 1)):
        with frozen_eval(net):
            bounds = dict(zip(("id", "ood"), ConfidenceBounds(net)(images, 4 / 255), strict=True))
            target = {"": MSP().fit(net).target(membership)}
            attack = Strong(epsilon=4, steps=20, queries=20, epsilon_checks=0)
            worst = attack.attack_scores(images, target)[""].score
        assert (sign * bounds[membership] >= sign * worst - 1e-6).all()
        assert (sign * (bounds[membership] - worst) < 0.05).all()  # the bounds are not vacuous here


@pytest.mark.parametrize(
    "layer",
    [nn.GELU(), nn.Softmax(1), nn.BatchNorm2d(3, track_running_stats=False), nn.InstanceNorm2d(3), nn.Softplus()],
)
def test_other_operations_are_refused(layer):
    with pytest.raises(Unbounded, match="no interval arithmetic"):
        ConfidenceBounds(nn.Sequential(layer, nn.Flatten(), nn.Linear(12, 2)).eval())


def test_a_difference_or_a_branch_is_refused():
    class Difference(nn.Module):
        def forward(self, x):
            return torch.add(x, x, alpha=-1).flatten(1)

    class Branch(nn.Module):
        def forward(self, x):
            return x.flatten(1) if x.sum() > 0 else -x.flatten(1)

    for net in (Difference(), Branch()):
        with pytest.raises(Unbounded):
            ConfidenceBounds(net)


def test_the_small_net_has_bounds():
    low, high = ConfidenceBounds(SmallNet(10, width=8).eval())(torch.rand(2, 3, 32, 32), 1 / 255)
    assert ((low >= 0) & (low < high) & (high <= 1)).all()
