"""A GPU gives the numbers of a CPU, waits for the host nowhere, and a training on it resumes to the same weights."""

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch

from aloe_lightning.attacks import PGD, frozen_eval
from aloe_lightning.attacks.apgd import apgd
from aloe_lightning.attacks.ball import Ball
from aloe_lightning.attacks.square import square
from aloe_lightning.data import ImageSet
from aloe_lightning.data.sets.sign_warp import warp_signs
from aloe_lightning.detectors import MSP, ODIN, Energy, MaxLogit
from aloe_lightning.evaluation.batch_scorer import BatchScorer, BatchScores, EvaluationSet
from aloe_lightning.evaluation.evaluate import batched_with_oom_retry
from aloe_lightning.evaluation.records import read_records
from aloe_lightning.evaluation.scores import ScoreKey
from aloe_lightning.nets import DenseNet, SmallNet
from aloe_lightning.objectives import HALO, NTOM
from aloe_lightning.runtime.hardware import compile_net
from aloe_lightning.runtime.process import EXIT_CODE
from aloe_lightning.runtime.seeding import generator
from aloe_lightning.storage.cells import file_digest
from aloe_lightning.training.graphs import GraphedForward
from processes import ask_amid_training, exit_code, started
from test_end_to_end import TINY
from test_gpu_rehearsal import OBJECTIVES, _Trainer, batch, uint8_images

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: torch.cuda.is_available() is false")
CUDA = torch.device("cuda")


@pytest.fixture
def never_waits():
    """Let CUDA refuse whatever makes the host wait for the device."""

    def refuse(*, waiting):
        torch.cuda.set_sync_debug_mode("default" if waiting else "error")

    yield refuse
    torch.cuda.set_sync_debug_mode("default")


def objective_of(kind, dtype):
    """An objective of the rehearsal in one arithmetic on the CPU, from the same weights in every call."""
    torch.manual_seed(0)
    attack = {"attack": PGD(epsilon=2)} if kind is not NTOM else {}
    objective = kind(SmallNet(4, width=8), **attack).to(dtype).train()
    if kind is HALO:
        objective._helper = [copy.deepcopy(objective.net).eval()]
    return objective


def on(device, objective, dtype):
    """The objective and its batch on a device."""
    objective = objective.to(device)
    if isinstance(objective, HALO):
        objective._helper = [objective._helper[0].to(device)]
    inputs = batch()
    floats = {name: getattr(inputs, name).to(device, dtype) for name in ("inliers", "outliers")}
    return objective, inputs._replace(**floats, labels=inputs.labels.to(device))


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_training_step_has_the_gradients_of_the_cpu(kind, monkeypatch):
    monkeypatch.setattr(kind, "trainer", _Trainer())
    monkeypatch.setattr(kind, "global_step", 0)
    on_the_host = partial(generator, device="cpu")  # a GPU draws other numbers from the same seed
    monkeypatch.setattr("aloe_lightning.data.batches.generator", lambda *words, device: on_the_host(*words))
    gradients = {}
    for device in ("cpu", CUDA):
        objective, inputs = on(device, objective_of(kind, torch.float64), torch.float64)
        objective.training_step(inputs, 0).backward()
        gradients[str(device)] = [parameter.grad.cpu() for parameter in objective.net.parameters()]
    for ours, theirs in zip(gradients["cuda"], gradients["cpu"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)  # losses are float32


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_training_step_never_waits_for_the_gpu(kind, monkeypatch, never_waits):
    monkeypatch.setattr(kind, "trainer", _Trainer())
    monkeypatch.setattr(kind, "global_step", 0)
    objective, inputs = on(CUDA, objective_of(kind, torch.float32), torch.float32)
    objective.training_step(inputs, 0).backward()  # prepares kernels
    never_waits(waiting=False)
    objective.on_train_batch_start(inputs, 0)
    loss = objective.training_step(inputs, 0)
    loss.backward()
    never_waits(waiting=True)
    assert math.isfinite(float(loss.detach()))


@pytest.mark.parametrize("detector", [MSP(), ODIN(), Energy(), MaxLogit()], ids=lambda d: type(d).__name__)
def test_attack_and_scores_are_those_of_the_cpu(detector):
    torch.manual_seed(0)
    net = SmallNet(4, width=8).double().eval()
    images = uint8_images(5).double() / 255
    start = (torch.rand(images.shape, generator=generator(0)) * 2 - 1).double()
    scores = {}
    for device in ("cpu", CUDA):
        with frozen_eval(net.to(device)):
            fitted = detector.fit(net)
            attacked = PGD(epsilon=2, steps=4)(images.to(device), fitted.loss("ood"), start=start.to(device))
            scores[str(device)] = fitted(attacked).cpu()
    torch.testing.assert_close(scores["cuda"], scores["cpu"], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("search", ["apgd", "square"])
def test_the_strong_attacks_are_those_of_the_cpu_and_never_wait(search, norm, never_waits):
    torch.manual_seed(0)
    net = SmallNet(4, width=8).double().eval()
    images, ball = uint8_images(5).double() / 255, Ball(norm, 4 / 255)
    losses = {}
    for device in ("cpu", CUDA):
        with frozen_eval(net.to(device)):
            loss, x = MSP().fit(net).loss("ood"), images.to(device)
            never_waits(waiting=device == "cpu" or search == "square")  # the draws of square are made on the host
            if search == "apgd":
                result = apgd(x, loss, ball=ball, steps=6)
            else:
                result = square(x, loss, ball=ball, queries=8, generators=[generator(n) for n in range(5)])
            never_waits(waiting=True)
            losses[str(device)] = result.loss.cpu()
    torch.testing.assert_close(losses["cuda"], losses["cpu"], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
@pytest.mark.parametrize("use", ["training", "frozen"])
@pytest.mark.slow
def test_a_compiled_net_gives_the_logits_and_gradients_of_the_net(mode, use):
    torch._dynamo.reset()
    torch.manual_seed(0)
    net = SmallNet(4, width=8).to(CUDA).train(use == "training")
    compiled, images = copy.deepcopy(net), (uint8_images(6) / 255).to(CUDA)
    assert compile_net(compiled, mode, CUDA)
    results = []
    for each in (net, compiled):
        x = images.clone().requires_grad_(True)
        logits = each(x)
        (gradient,) = torch.autograd.grad(logits.square().sum(), x)
        results.append((logits.detach().clone(), gradient.clone()))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def train(objective, inputs, steps):
    """Train for some steps, the last on a smaller batch, as at the end of an epoch."""
    sgd = torch.optim.SGD(objective.net.parameters(), lr=0.01, momentum=0.9)

    def train_step(step):
        objective.on_train_batch_start(inputs, step)
        last = step == steps - 1
        part = inputs._replace(inliers=inputs.inliers[:4], labels=inputs.labels[:4]) if last else inputs
        loss = objective.training_step(part, step)
        sgd.zero_grad()
        loss.backward()
        sgd.step()

    for step in range(steps):
        train_step(step)


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("kind", OBJECTIVES)
def test_cuda_graphs_train_as_the_kernels_do_one_by_one(kind, joint, monkeypatch, caplog):
    monkeypatch.setattr(kind, "trainer", _Trainer())
    monkeypatch.setattr(kind, "global_step", 0)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    states = []
    for graphs in (False, True):
        objective, inputs = on(CUDA, objective_of(kind, torch.float32), torch.float32)
        objective.joint_forward = joint
        if graphs:
            objective.net.forward = GraphedForward(objective.net)
        train(objective, inputs, steps=8)
        states.append({name: value.float().clone() for name, value in objective.net.state_dict().items()})
    captured = objective.net.forward.captured.values()
    assert captured, "no pass was captured"
    assert all(each.calls > 1 for each in captured)
    # Its several passes in a step are open at once, which CUDA refuses to capture.
    assert ("without a CUDA graph" in caplog.text) == (kind is HALO)
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=2e-2, atol=2e-3, msg=lambda m, n=name: f"{n}: {m}")
        if name.endswith("num_batches_tracked"):
            assert torch.equal(states[1][name], value), name


def graphed_net():
    """A net whose next training pass and attack are replayed from graphs, and the same net without."""
    torch.manual_seed(0)
    net = SmallNet(4, width=8).to(CUDA).train()
    eager = copy.deepcopy(net)
    net.forward = GraphedForward(net)
    images = (uint8_images(6) / 255).to(CUDA)
    for _ in range(5):
        net(images).sum().backward()
        eager(images).sum().backward()
        net.zero_grad()
        eager.zero_grad()
    (captured,) = net.forward.captured.values()
    assert captured.calls > 0
    return net, eager, images, captured


def test_two_forward_passes_before_a_backward_pass_do_not_share_a_graph():
    net, eager, images, captured = graphed_net()
    calls = captured.calls
    for each in (net, eager):
        first, second = each(images), each(images.flip(3))
        (first.square().sum() + second.sum()).backward()
    assert captured.calls == calls + 1
    for ours, theirs in zip(net.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4)


def test_a_second_backward_pass_through_a_graph_is_refused():
    net, _, images, _ = graphed_net()
    loss = net(images).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="second backward pass through a CUDA graph"):
        loss.backward()


def test_a_backward_pass_that_comes_too_late_is_refused():
    net, _, images, _ = graphed_net()
    forgotten = net(images).sum()
    net.forward.close()
    net(images).sum().backward()
    with pytest.raises(RuntimeError, match="CUDA graph"):
        forgotten.backward()


@pytest.mark.parametrize("compile", ["graphs", "off"])
def test_a_run_with_graphs_ends_with_the_net_itself(command, compile):
    outputs = command("objective=aloe", *TINY, "trainer.max_steps=9", f"compile={compile}", "trainer.accelerator=gpu")
    assert len(list(outputs.glob("models/demo-aloe-*/weights.safetensors"))) == 1
    assert len(list(outputs.glob("demo/aloe-*/records.jsonl"))) == 1


def test_signs_are_warped_as_on_the_cpu():
    images = uint8_images(8)
    draws = torch.Generator(CUDA).manual_seed(0)
    warped = warp_signs(images.to(CUDA), draws)
    assert warped.device.type == "cuda"
    assert warped.dtype == torch.uint8
    again = warp_signs(images.to(CUDA), torch.Generator(CUDA).manual_seed(0))
    assert torch.equal(warped, again)
    assert not torch.equal(warped.cpu(), images)


def test_a_batch_that_the_memory_cannot_hold_is_halved_and_scored_the_same():
    """A batch that does not fit is halved until it does."""
    torch.manual_seed(0)
    net = DenseNet(4, depth=22, growth_rate=12).to(CUDA).eval()
    dataset = EvaluationSet.with_seeded_noise("id", "id", ImageSet(uint8_images(512), torch.arange(512) % 4), seed=0)
    with frozen_eval(net):
        scorer = BatchScorer(net, {"msp": MSP().fit(net)}, PGD(epsilon=1, steps=1), False, False)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        whole = scorer(dataset, torch.arange(512))
        limit = 0.5 * torch.cuda.max_memory_reserved() / torch.cuda.get_device_properties(0).total_memory
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(limit)
        try:
            parts = list(batched_with_oom_retry(partial(scorer, dataset), torch.arange(512), 512, None))
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
    assert len(parts) > 1, "the memory held the whole batch"
    limited = BatchScores.concatenate(parts)
    for condition in ("clean", "attacked"):
        key = ScoreKey("msp", "id", condition)
        differences = np.abs(limited.scores[key] - whole.scores[key])
        assert np.median(differences) < 1e-4
        assert differences.max() < (1e-3 if condition == "clean" else 0.05)  # the sign of a gradient may turn near zero


ON_GPU = ("objective=aloe", *TINY, "trainer.accelerator=gpu", "trainer.deterministic=true")


def test_a_stopped_training_resumes_to_the_same_weights(command, tmp_path, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # which PyTorch asks for with deterministic=true
    longer = (*ON_GPU, "trainer.max_steps=12", "checkpoint_seconds=1000")
    job = started([*longer, f"paths.outputs={tmp_path / 'stopped'}"], tmp_path, ask_amid_training)
    assert exit_code(job) == EXIT_CODE, (tmp_path / "log").read_text()
    for name in ("stopped", "undisturbed"):
        job = started([*longer, f"paths.outputs={tmp_path / name}"], tmp_path)
        assert exit_code(job) == 0, (tmp_path / "log").read_text()
    files = list(tmp_path.glob("*/models/demo-aloe-*/weights.safetensors"))
    assert len(files) == 2
    assert len({file_digest(path) for path in files}) == 1


def test_weights_are_scored_as_on_the_cpu(command):
    outputs = command("objective=oe", *TINY, "trainer.max_steps=30", "compile=off", "trainer.accelerator=gpu")
    (weights,) = outputs.glob("models/demo-oe-*/weights.safetensors")
    values = {}
    for device in ("gpu", "cpu"):
        given = (f"checkpoint={weights}", f"trainer.accelerator={device}", f"study={device}", "compile=off")
        command("objective=oe", *TINY, *given)
        (file,) = (outputs / device).glob("oe-*/records.jsonl")
        values[device] = {(r.detector, r.ood, r.side, r.metric): r.value for r in read_records(file)}
    assert values["gpu"].keys() == values["cpu"].keys()
    clean = [key for key in values["cpu"] if key[2] == "none"]
    assert clean
    for key in clean:
        assert values["gpu"][key] == pytest.approx(values["cpu"][key], abs=0.005), key
