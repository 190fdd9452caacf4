"""ACET, HALO, NTOM and ATOM against their published equations, on linear nets, with the attack really run."""

import math

import pytest
import torch
from torch import nn

from aloe_lightning.attacks import PGD
from aloe_lightning.data import Batch
from aloe_lightning.errors import UserError
from aloe_lightning.losses import kl_divergence, max_log_confidence, rejection_loss
from aloe_lightning.nets import SmallNet
from aloe_lightning.objectives import ACET, ATOM, HALO, NTOM, Optim
from aloe_lightning.storage.weights import save_weights

EPS = 3 / 255
ALL = (ACET, HALO, NTOM, ATOM)


class Linear(nn.Module):
    """Logits (s, -s), s linear in the image; with a rejection class (0.3, -0.2, -s)."""

    def __init__(self, rejects, seed=0):
        super().__init__()
        self.rejects = rejects
        self.weight = nn.Parameter(torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(seed)))

    def forward(self, images):
        s = (images * self.weight).sum((1, 2, 3))
        return torch.stack([0 * s + 0.3, 0 * s - 0.2, -s] if self.rejects else [s, -s], 1)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    inliers, outliers = (0.2 + 0.6 * torch.rand(n, 3, 4, 4, generator=generator) for n in (5, 7))
    return Batch(inliers, torch.tensor([0, 1, 1, 0, 1]), outliers, seed=3)


class Recording:
    """PGD, which is run, and what it was given and returned."""

    def __init__(self, **settings):
        self.attack, self.calls = PGD(epsilon=3, steps=8, **settings), []

    epsilon = 3.0

    def describe(self):
        return self.attack.describe()

    def __call__(self, images, loss, *, start=None, generator=None):
        attacked = self.attack(images, loss, start=start, generator=generator)
        self.calls.append((images, attacked, loss(images), loss(attacked)))
        return attacked


def make(cls, net, attack=None, **settings):
    arguments = {} if cls is NTOM else {"attack": attack or Recording()}
    objective = cls(net, channels_last=False, **arguments, **settings)
    objective.log_step = lambda *_: None
    return objective


def by_hand(cls, net, batch, weight):
    """The equations of ACET, NTOM and ATOM, sample by sample, with the maximum of the linear net put in."""
    w = net.weight.detach().double()
    reach = EPS * w.abs().sum().item()
    scores = {name: [(x.double() * w).sum().item() for x in getattr(batch, name)] for name in ("inliers", "outliers")}
    labels = batch.labels.tolist()
    if cls is ACET:
        inliers = [math.log(1 + math.exp(-2 * s * (1 - 2 * y))) for s, y in zip(scores["inliers"], labels, strict=True)]
        outliers = [-math.log(1 + math.exp(-2 * (abs(s) + reach))) for s in scores["outliers"]]
    else:
        known = math.exp(0.3) + math.exp(-0.2)
        inliers = [
            math.log(known + math.exp(-s)) - (0.3, -0.2)[y] for s, y in zip(scores["inliers"], labels, strict=True)
        ]
        shifts = [reach if cls is ATOM and i >= 3 else 0 for i in range(7)]  # the second half is perturbed
        outliers = [math.log(known + math.exp(-s - d)) + s + d for s, d in zip(scores["outliers"], shifts, strict=True)]
    return sum(inliers) / len(inliers) + weight * sum(outliers) / len(outliers)


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("cls", [ACET, NTOM, ATOM])
def test_loss_and_gradient_equal_the_equation(cls, joint, batch):
    net = Linear(cls is not ACET)
    loss = make(cls, net, outlier_weight=0.7, joint_forward=joint).training_step(batch, 0)
    assert loss.item() == pytest.approx(by_hand(cls, net, batch, 0.7), rel=1e-5)
    loss.backward()
    h, direction = 1e-4, torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(4))
    values = []
    for sign in (1, -1):  # Danskin: the derivative of the maximum is that of the loss at the maximiser
        moved = Linear(net.rejects).double()
        moved.weight.data = net.weight.data.double() + sign * h * direction
        values.append(by_hand(cls, moved, batch, 0.7))
    slope = (values[0] - values[1]) / (2 * h)
    assert (net.weight.grad * direction).sum().item() == pytest.approx(slope, rel=1e-3)


def halo_by_hand(net, helper, batch, recorded, lam, beta, gamma):
    """HALO's equation, sample by sample in float64, at the perturbed images of the attack."""

    def log_f(images, model=net):
        return torch.log_softmax(model(images.double().unsqueeze(0)), 1)[0]

    def kl(clean, perturbed):
        p, q = log_f(clean), log_f(perturbed)
        return sum(p[k].exp() * (p[k] - q[k]) for k in range(2))

    inliers, outliers = [], []
    for x, y, x_adv in zip(batch.inliers, batch.labels, recorded[:5], strict=True):
        label = log_f(x_adv, helper).argmax()
        far = x.double() + 2 * (x_adv.double() - x.double())
        inliers.append(-log_f(x)[y] + beta * kl(x, x_adv) - gamma * log_f(far)[label])
    for o, o_adv in zip(batch.outliers, recorded[5:], strict=True):
        outliers.append(-log_f(o).mean() + beta * kl(o, o_adv))
    return torch.stack(inliers).mean() + lam * torch.stack(outliers).mean()


@pytest.mark.parametrize("joint", [True, False])
def test_halo_equals_its_equation_at_the_images_of_its_attack(joint, batch):
    net, helper, attack = Linear(False), Linear(False, seed=5), Recording()
    objective = make(
        HALO, net, attack, outlier_weight=0.7, consistency_weight=1.5, helper_weight=0.4, joint_forward=joint
    )
    objective._helper = [helper]
    loss = objective.training_step(batch, 0)
    loss.backward()
    recorded = torch.cat([attacked for _, attacked, _, _ in attack.calls])
    shift = ((recorded - torch.cat([batch.inliers, batch.outliers])) * net.weight).sum((1, 2, 3)).abs()
    torch.testing.assert_close(shift, torch.full((12,), EPS * net.weight.abs().sum().item()))  # a corner of the ball
    exact = Linear(False).double()
    expected = halo_by_hand(exact, helper.double(), batch, recorded, 0.7, 1.5, 0.4)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(net.weight.grad.double(), exact.weight.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("cls", [ACET, HALO, ATOM])
def test_the_attack_raises_the_loss_of_every_image_it_is_given(cls, batch):
    attack, counts = Recording(), {ACET: 7, HALO: 12, ATOM: 4}
    settings = {"helper_weight": 0} if cls is HALO else {}
    make(cls, Linear(cls is ATOM), attack, **settings).training_step(batch, 0)
    ((images, attacked, before, after),) = attack.calls
    assert len(images) == counts[cls]
    assert (after > before).all()
    assert (attacked - images).abs().max() <= EPS + 1e-6


def test_losses_equal_slow_loops():
    logits, reference = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    for z, r, kl, top, last in zip(
        logits,
        reference,
        kl_divergence(logits, reference),
        max_log_confidence(logits),
        rejection_loss(logits),
        strict=True,
    ):
        f, g = ([math.exp(v) / sum(math.exp(u) for u in values) for v in values] for values in (z.tolist(), r.tolist()))
        assert kl.item() == pytest.approx(sum(b * math.log(b / a) for a, b in zip(f, g, strict=True)), rel=1e-5)
        assert top.item() == pytest.approx(math.log(max(f)), rel=1e-5)
        assert last.item() == pytest.approx(-math.log(f[2]), rel=1e-5)


def test_the_divergence_has_no_gradient_where_the_attack_of_halo_must_not_start():
    logits = torch.randn(3, 4).requires_grad_()
    kl_divergence(logits, logits.detach().clone()).sum().backward()
    assert logits.grad.abs().max() < 1e-6
    for settings in ({"random_start": False}, {"rounding": "truncate"}, {"rounding": "nearest"}):
        with pytest.raises(UserError, match=r"HALO.*random_start=true and rounding=none"):
            HALO(Linear(False), attack=PGD(**settings))


def test_halo_reads_its_helper_at_the_beginning_of_a_training(tmp_path):
    trained = Linear(False, seed=5)
    save_weights(tmp_path / "helper.safetensors", trained, {})
    net = Linear(False)
    objective = make(HALO, net, helper=str(tmp_path / "helper.safetensors"))
    objective.on_fit_start()
    assert torch.equal(objective._helper[0].weight, trained.weight)
    assert not torch.equal(net.weight, trained.weight)
    assert not objective._helper[0].weight.requires_grad
    assert list(objective.state_dict()) == ["net.weight"]
    for helper, message in ((None, "is not given"), (str(tmp_path / "none"), "is no file")):
        with pytest.raises(UserError, match=rf"objective\.helper {message}"):
            make(HALO, net, helper=helper).on_fit_start()
    make(HALO, net, helper_weight=0).on_fit_start()


@pytest.mark.parametrize("cls", ALL)
def test_flags_say_what_the_objective_uses(cls):
    uses = {
        ACET: (False, True, False),
        HALO: (True, True, False),
        NTOM: (False, False, True),
        ATOM: (False, True, True),
    }
    assert (cls.perturbs_inliers, cls.perturbs_outliers, cls.rejection_class) == uses[cls]
    assert cls.uses_outliers


@pytest.mark.parametrize("cls", ALL)
def test_ten_steps_lower_the_loss(cls):
    torch.manual_seed(0)
    images = torch.rand(14, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    batch = Batch(images[:6], torch.arange(6), images[6:])
    settings = {"helper_weight": 0, "attack": PGD()} if cls is HALO else {}
    objective = cls(SmallNet(11 if cls.rejection_class else 10, width=8).train(), optim=Optim(lr=0.05), **settings)
    objective.log_step = lambda *_: None
    sgd, _ = objective.optim.build(objective.net, 10)
    losses = []
    for _ in range(10):
        loss = objective.training_step(batch, 0)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.3


@pytest.mark.parametrize(
    ("cls", "wrong"), [(NTOM, {"quantile": 0.8}), (ATOM, {"quantile": -0.1}), (HALO, {"consistency_weight": -1})]
)
def test_arguments_out_of_range_are_named(cls, wrong):
    with pytest.raises(UserError, match=f"{cls.__name__}: {next(iter(wrong))}: "):
        cls(Linear(False), **wrong)
