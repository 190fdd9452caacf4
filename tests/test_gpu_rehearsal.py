"""A rehearsal for a GPU on the CPU: no step waits for the device, and nothing is created on another one."""

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from aloe_lightning.attacks import PGD, frozen_eval
from aloe_lightning.attacks.apgd import apgd
from aloe_lightning.attacks.ball import Ball
from aloe_lightning.attacks.square import square
from aloe_lightning.data import ImageSet
from aloe_lightning.data.augmentation import random_crop_flip
from aloe_lightning.data.batches import Batch
from aloe_lightning.detectors import MSP, ODIN, Energy, MaxLogit
from aloe_lightning.evaluation.batch_scorer import BatchScorer, EvaluationSet
from aloe_lightning.nets import DenseNet, SmallNet
from aloe_lightning.objectives import ADV, ALOE, AOE, OE, Original
from aloe_lightning.runtime.seeding import generator

WAITS = ("_local_scalar_dense", "nonzero", "unique", "masked_select", "is_nonzero")
"""Operations whose result the host must see before it can go on."""
FACTORIES = {
    *(torch.zeros, torch.ones, torch.empty, torch.full, torch.rand, torch.randn, torch.randint, torch.randperm),
    *(torch.arange, torch.tensor, torch.linspace, torch.eye),
}


class NoWaiting(TorchDispatchMode):
    """Fails on an operation that would make the host wait for a GPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().split("::")[-1].split(".")[0]
        assert name not in WAITS, f"{func} waits for the device"
        return func(*args, **(kwargs or {}))


class OnTheDevice(TorchFunctionMode):
    """Fails on a tensor that is created without a device, hence on the CPU."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        assert func not in FACTORIES or kwargs.get("device") is not None, f"{func.__name__} without a device"
        return func(*args, **kwargs)


def uint8_images(count):
    return torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator(count))


def batch():
    return Batch(uint8_images(6) / 255, torch.arange(6) % 4, uint8_images(9) / 255, seed=1)


def objective_of(kind, **options):
    net = SmallNet(4, width=8)
    return kind(net, attack=PGD(epsilon=2), **options)


class _Trainer:
    log_every_n_steps = 10**9
    global_step = 0


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("kind", [Original, OE, ADV, AOE, ALOE])
def test_a_training_step_never_waits_for_the_device(kind, joint, monkeypatch):
    objective, inputs = objective_of(kind, joint_forward=joint).train(), batch()
    monkeypatch.setattr(type(objective), "trainer", _Trainer())
    monkeypatch.setattr(type(objective), "global_step", 0)
    with NoWaiting(), OnTheDevice():
        loss = objective.training_step(inputs, 0)
        loss.backward()
    assert torch.isfinite(loss)
    assert all(parameter.grad is not None for parameter in objective.net.parameters())


def test_augmentation_never_waits_for_the_device():
    images, draws = uint8_images(5), generator(0)
    with NoWaiting(), OnTheDevice():
        augmented = random_crop_flip(images, generator=draws)
    assert augmented.shape == images.shape


@pytest.mark.parametrize("detector", [MSP(), ODIN(), Energy(), MaxLogit()], ids=lambda d: type(d).__name__)
def test_attack_and_scores_of_a_batch_wait_only_for_the_result(detector):
    net = SmallNet(4, width=8).eval()
    images = uint8_images(5) / 255
    with frozen_eval(net):
        fitted = detector.fit(net)
        start = torch.rand(images.shape, generator=generator(0)) * 2 - 1
        with NoWaiting(), OnTheDevice():
            attacked = PGD(epsilon=1, steps=3)(images, fitted.loss("ood"), start=start)
            scores = fitted(attacked)
    assert scores.shape == (5,)


@pytest.mark.slow
@pytest.mark.parametrize("net", [SmallNet(4, width=8), DenseNet(4, depth=10, fused=False)], ids=["small", "densenet"])
@pytest.mark.parametrize("use", ["training", "frozen"])
def test_both_uses_of_a_net_compile_to_one_graph(net, use):
    torch._dynamo.reset()
    images = uint8_images(4) / 255
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    if use == "training":
        net.train()
        compiled(images).sum().backward()
        assert all(parameter.grad is not None for parameter in net.parameters())
        return
    with frozen_eval(net):
        x = images.clone().requires_grad_(True)
        logits = compiled(x)
        (gradient,) = torch.autograd.grad(logits.sum(), x)
        expected = torch.autograd.grad(net(x).sum(), x)[0]
        torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("search", ["apgd", "square"])
def test_the_strong_attacks_never_wait_for_the_device(search, norm):
    net = SmallNet(4, width=8).eval()
    images = uint8_images(5) / 255
    ball = Ball(norm, 4 / 255)
    with frozen_eval(net):
        loss = MSP().fit(net).loss("ood")
        with NoWaiting(), OnTheDevice():
            if search == "apgd":
                result = apgd(images, loss, ball=ball, steps=6)
            else:
                result = square(images, loss, ball=ball, queries=4, generators=[generator(n) for n in range(5)])
    assert (result.loss >= result.start_loss).all()


def test_the_rehearsal_notices_a_wait_and_a_tensor_on_another_device():
    x = torch.arange(3.0)
    with pytest.raises(AssertionError, match="waits for the device"), NoWaiting():
        float(x.sum())
    with pytest.raises(AssertionError, match="zeros without a device"), OnTheDevice():
        torch.zeros(3)


def test_a_batch_of_a_set_is_scored_with_one_wait_for_each_result():
    """The scores go to the host at the end of a batch, not within the attack."""
    net = SmallNet(4, width=8).eval()
    images = ImageSet(uint8_images(7), torch.arange(7) % 4)
    with frozen_eval(net):
        scorer = BatchScorer(net, {"msp": MSP().fit(net)}, PGD(epsilon=1, steps=2), True, False)
        dataset = EvaluationSet.with_seeded_noise("id", "id", images, seed=0)
        with NoWaiting():
            scores = scorer(dataset, torch.arange(7))
    assert scores.scores["msp", "id", "attacked"].shape == (7,)
