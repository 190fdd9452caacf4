"""Each objective against its equation written out by hand, on a linear net whose inner maximum has a closed form."""

import math

import pytest
import torch
from torch import nn

from aloe_lightning.attacks import PGD
from aloe_lightning.data import Batch
from aloe_lightning.errors import UserError
from aloe_lightning.nets import SmallNet
from aloe_lightning.objectives import ADV, ALOE, AOE, OE, Objective, Optim, Original

EPS = 3 / 255
ALL = (Original, OE, ADV, AOE, ALOE)


class LinearNet(nn.Module):
    """Two classes, logits (s, -s) with s linear in the image: every inner maximum is at a corner of the ball."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0)))

    def forward(self, images):
        s = (images * self.weight).sum((1, 2, 3))
        return torch.stack([s, -s], 1)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    inliers, outliers = (0.2 + 0.6 * torch.rand(n, 3, 4, 4, generator=generator) for n in (5, 7))
    return Batch(inliers, torch.tensor([0, 1, 1, 0, 1]), outliers)


def make(cls, net, **settings):
    objective = cls(net, attack=PGD(epsilon=3, steps=8), channels_last=False, **settings)
    objective.log_step = lambda *_: None
    return objective


def by_hand(name, net, batch, weight):
    """The equation of each objective, sample by sample, with the maximum of the linear net put in."""
    w = net.weight.detach()
    reach = EPS * w.abs().sum().item()

    def nll(image, label, perturbed):
        s = (image * w).sum().item() * (1 if label == 0 else -1)
        s = s - reach if perturbed else s
        return math.log(1 + math.exp(-2 * s))

    def uniform(image, perturbed):
        s = abs((image * w).sum().item())
        s = s + reach if perturbed else s
        return math.log(math.exp(s) + math.exp(-s))

    inner = name in ("ADV", "AOE", "ALOE")
    loss = sum(nll(x, y, inner) for x, y in zip(batch.inliers, batch.labels, strict=True)) / len(batch.labels)
    if name in ("OE", "AOE", "ALOE"):
        loss += weight * sum(uniform(x, name == "ALOE") for x in batch.outliers) / len(batch.outliers)
    return loss


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("cls", ALL)
def test_loss_equals_the_equation(cls, joint, batch):
    net = LinearNet()
    loss = make(cls, net, outlier_weight=0.7, joint_forward=joint).training_step(batch, 0)
    assert loss.item() == pytest.approx(by_hand(cls.__name__, net, batch, 0.7), rel=1e-5)


@pytest.mark.parametrize("cls", ALL)
def test_flags_say_what_the_objective_uses(cls):
    uses, inliers, outliers = {
        Original: (False, False, False),
        OE: (True, False, False),
        ADV: (False, True, False),
        AOE: (True, True, False),
        ALOE: (True, True, True),
    }[cls]
    assert (cls.uses_outliers, cls.perturbs_inliers, cls.perturbs_outliers) == (uses, inliers, outliers)


def real_batch():
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(14, 3, 32, 32, generator=generator)
    return Batch(images[:6], torch.arange(6), images[6:])


@pytest.mark.parametrize("batchnorm", ["train", "eval"])
@pytest.mark.parametrize("cls", [ADV, ALOE])
def test_running_statistics_move_by_the_weight_update_pass_alone(cls, batchnorm):
    torch.manual_seed(0)
    net = SmallNet(10, width=8).train()
    objective = cls(net, attack=PGD(epsilon=2), inner_batchnorm=batchnorm)
    objective.log_step = lambda *_: None
    seen = []
    net.register_forward_pre_hook(
        lambda module, args: seen.append(args[0].detach().clone()) if module.bn1.training else None
    )
    objective.training_step(real_batch(), 0)
    assert net.bn1.num_batches_tracked == 1
    fresh = SmallNet(10, width=8).train()
    fresh.load_state_dict(net.state_dict())
    for norm in (m for m in fresh.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.reset_running_stats()
    with torch.no_grad():
        fresh(seen[-1])
    torch.testing.assert_close(fresh.bn1.running_mean, net.bn1.running_mean)
    assert all(p.requires_grad for p in net.parameters())


def test_weights_get_the_gradient_of_the_outer_loss_only(batch):
    net = LinearNet()
    make(ALOE, net).training_step(batch, 0).backward()
    gradient = net.weight.grad.clone()
    h, direction = 1e-3, torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(4))
    values = []
    for sign in (1, -1):  # Danskin: the derivative of the maximum is that of the loss at the maximiser
        moved = LinearNet()
        moved.weight.data += sign * h * direction
        values.append(by_hand("ALOE", moved, batch, 0.5))
    assert (gradient * direction).sum().item() == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-2)


@pytest.mark.parametrize(
    "wrong", [{"outlier_weight": -1}, {"inner_batchnorm": "off"}, {"joint_forward": "maybe"}, {"channels_last": 2}]
)
def test_arguments_out_of_range_are_named(wrong):
    with pytest.raises(UserError, match=f"ALOE: {next(iter(wrong))}: "):
        ALOE(LinearNet(), **wrong)


@pytest.mark.parametrize("wrong", [{"lr": 0}, {"min_lr": -1}, {"warmup": 1}, {"momentum": 1}, {"weight_decay": -1}])
def test_settings_of_the_optimiser_out_of_range_are_named(wrong):
    with pytest.raises(UserError, match=f"Optim: {next(iter(wrong))}: "):
        Optim(**wrong)


def test_an_attack_from_outside_is_called_with_the_loss_of_the_images(batch):
    """A plain class with the attack's interface; it returns the images and remembers their losses."""

    class Watching:
        epsilon = 2.0

        def __init__(self):
            self.losses = []

        def describe(self):
            return "watching"

        def __call__(self, images, loss, *, start=None, generator=None):
            assert not any(p.requires_grad for p in net.parameters())
            self.losses.append(loss(images))
            return images

    net, attack = LinearNet(), Watching()
    objective = ALOE(net, attack=attack, channels_last=False)
    objective.log_step = lambda *_: None
    loss = objective.training_step(batch, 0)
    assert attack.losses[0].shape == (12,)
    assert loss.item() == pytest.approx(attack.losses[0][:5].mean().item() + 0.5 * attack.losses[0][5:].mean().item())


def test_an_objective_that_states_nothing_counts_as_one_that_uses_everything():
    assert (Objective.uses_outliers, Objective.perturbs_inliers, Objective.perturbs_outliers) == (True, True, True)


def test_cosine_is_the_papers_and_warm_up_rises_linearly():
    paper = Optim(lr=0.1, min_lr=1e-6)
    for step in (0, 1, 250, 999, 1000):
        expected = 1e-6 + (0.1 - 1e-6) * 0.5 * (1 + math.cos(step / 1000 * math.pi))
        assert paper.rate(step, 1000) == pytest.approx(expected)
    cycle = Optim(lr=0.2, min_lr=0, warmup=0.25)
    assert [cycle.rate(s, 100) for s in (0, 25, 100)] == pytest.approx([0.2 / 25, 0.2, 0.0])
    assert cycle.rate(10, 100) - cycle.rate(5, 100) == pytest.approx(cycle.rate(20, 100) - cycle.rate(15, 100))


def test_optimiser_follows_the_schedule():
    net = LinearNet()
    optim = Optim(lr=0.1, warmup=0.5)
    sgd, schedule = optim.build(net, 10)
    group = sgd.param_groups[0]
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, True, 1e-4)
    for step in range(10):
        assert group["lr"] == pytest.approx(optim.rate(step, 10))
        sgd.step()
        schedule.step()


@pytest.mark.parametrize("cls", ALL)
def test_twenty_steps_lower_the_loss(cls):
    torch.manual_seed(0)
    objective = cls(SmallNet(10, width=8).train(), optim=Optim(lr=0.05))
    objective.log_step = lambda *_: None
    sgd, _ = objective.optim.build(objective.net, 20)
    losses = []
    for _ in range(20):
        loss = objective.training_step(real_batch(), 0)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
