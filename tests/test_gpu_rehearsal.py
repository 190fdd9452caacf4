"""A rehearsal for a GPU on the CPU: no step waits for the device, and nothing is created on another one."""

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from aloe_lightning import objectives
from aloe_lightning.attacks import PGD, frozen_eval
from aloe_lightning.attacks.apgd import apgd
from aloe_lightning.attacks.ball import Ball
from aloe_lightning.attacks.ensemble import Strong
from aloe_lightning.attacks.square import square
from aloe_lightning.data import ImageSet
from aloe_lightning.data.augmentation import random_crop_flip
from aloe_lightning.data.batches import Batch
from aloe_lightning.detectors import (
    KNN,
    MSP,
    ODIN,
    CacheableDetector,
    Energy,
    FitData,
    Mahalanobis,
    MahalanobisLast,
    MaxLogit,
    ReAct,
    Rejection,
    ViM,
)
from aloe_lightning.evaluation.batch_scorer import BatchScorer, EvaluationSet
from aloe_lightning.nets import DenseNet, RejectionNet, SmallNet
from aloe_lightning.objectives import ACET, ADV, ALOE, AOE, ATOM, HALO, NTOM, OE, Objective, Original
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


def objective_of(kind, device="cpu", **options):
    objective = kind(SmallNet(4, width=8), attack=PGD(epsilon=2), **options).train().to(device)
    if kind is HALO:
        objective._helper = [SmallNet(4, width=8).eval().to(device)]  # which its training loads first
    return objective


class _Trainer:
    log_every_n_steps = 10**9
    global_step = 0


OBJECTIVES = [ACET, ADV, ALOE, AOE, ATOM, HALO, NTOM, OE, Original]


def test_every_objective_is_rehearsed():
    exported = [getattr(objectives, name) for name in objectives.__all__]
    assert {o for o in exported if isinstance(o, type) and issubclass(o, Objective)} - {Objective} == set(OBJECTIVES)


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_training_step_never_waits_for_the_device(kind, joint, monkeypatch):
    objective, inputs = objective_of(kind, joint_forward=joint), batch()
    monkeypatch.setattr(type(objective), "trainer", _Trainer())
    monkeypatch.setattr(type(objective), "global_step", 0)
    with NoWaiting(), OnTheDevice():
        objective.on_train_batch_start(inputs, 0)
        loss = objective.training_step(inputs, 0)
        objective.backward(loss)
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


def on_meta(batch):
    """The batch without values: whatever must see one fails, and so does a tensor on another device beside it."""
    parts = {name: getattr(batch, name).to("meta") for name in ("inliers", "labels", "outliers")}
    return batch._replace(**parts)


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_training_step_creates_everything_on_the_device_of_its_images(kind, joint, monkeypatch):
    devices = []
    monkeypatch.setattr("aloe_lightning.data.batches.generator", lambda *_, device: devices.append(str(device)))
    objective = objective_of(kind, "meta", joint_forward=joint)
    monkeypatch.setattr(type(objective), "trainer", _Trainer())
    monkeypatch.setattr(type(objective), "global_step", 0)
    loss = objective.training_step(on_meta(batch()), 0)
    objective.backward(loss)
    assert loss.is_meta
    assert set(devices) <= {"meta"}, "generators are made on the device, too"
    assert bool(devices) == (kind.perturbs_inliers or kind.perturbs_outliers)


DETECTORS = {
    **{detector.__name__: detector() for detector in (MSP, ODIN, Energy, MaxLogit, ReAct, KNN, ViM, MahalanobisLast)},
    "Mahalanobis": Mahalanobis(eta=0.001),
    "Rejection": Rejection(),
}


def fitted_on_meta(name):
    """A detector that is fitted on the CPU, on the meta device."""
    detector, net = DETECTORS[name], SmallNet(5, width=8)
    net = RejectionNet(net, 4).eval() if name == "Rejection" else net.eval()
    inliers = ImageSet(uint8_images(80), torch.arange(80) % 5)
    data = FitData(inliers=lambda: inliers, outliers=lambda: ImageSet(uint8_images(90)), num_classes=5)
    fitted = detector.fit(net, data)
    if isinstance(detector, CacheableDetector):
        tensors = {key: tensor.to("meta") for key, tensor in fitted.tensors.items()}
        return detector.from_state(net.to("meta"), fitted.settings, tensors)
    return detector.fit(net.to("meta"), data)


@pytest.mark.parametrize("membership", ["id", "ood"])
@pytest.mark.parametrize("name", DETECTORS)
def test_scores_and_attacks_stay_on_the_device_of_the_images(name, membership):
    fitted, images = fitted_on_meta(name), torch.rand(5, 3, 32, 32, device="meta")
    with frozen_eval(fitted.net):
        attacked = PGD(epsilon=1, steps=2)(images, fitted.loss(membership))
        attack = Strong(epsilon=2, preset="standard", steps=2, queries=2)
        worst = attack.attack_scores(images, {name: fitted.target(membership)})[name]
        scores = fitted(attacked)
    results = [scores, attacked, worst.images, worst.score, worst.zero_gradient, worst.not_rising, worst.random_score]
    assert all(tensor.is_meta for tensor in (*results, *worst.candidates.values(), *worst.beyond.values()))


def waits_of_a_batch(attack, monkeypatch):
    """Number of results that a scored batch takes to the host; `Square` draws for each image on the host, too."""
    calls, cpu, net = [], torch.Tensor.cpu, SmallNet(4, width=8).eval()
    images = ImageSet(uint8_images(7), torch.arange(7) % 4)
    with frozen_eval(net), monkeypatch.context() as patch:
        scorer = BatchScorer(net, {"msp": MSP().fit(net), "odin": ODIN().fit(net)}, attack, True, False)
        dataset = EvaluationSet.with_seeded_noise("id", "id", images, seed=0)
        patch.setattr(torch.Tensor, "cpu", lambda tensor: calls.append(tensor.shape) or cpu(tensor))
        with NoWaiting():
            scores = scorer(dataset, torch.arange(7))
    assert np.isfinite(scores.scores["msp", "id", "attacked"]).all()
    return len(calls)


def test_an_evaluation_waits_for_results_only_however_many_steps_an_attack_has(monkeypatch):
    """With the strong attack, too: members, restarts and queries wait for nothing."""

    def strong(steps):
        return waits_of_a_batch(Strong(epsilon=2, steps=steps, queries=steps, epsilon_checks=3), monkeypatch)

    paper = waits_of_a_batch(PGD(epsilon=1, steps=2), monkeypatch)
    assert paper == waits_of_a_batch(PGD(epsilon=1, steps=5), monkeypatch) == 8
    assert strong(2) == strong(5)
