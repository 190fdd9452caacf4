"""The streamed dense stage against the layer-by-layer net: the same function, the same gradients."""

import copy

import pytest
import torch

from aloe_lightning.attacks import attackable
from aloe_lightning.nets import DenseNet, kernels


@pytest.fixture(autouse=True)
def one_part_is_never_all(monkeypatch):
    monkeypatch.setattr("aloe_lightning.nets.dense_stage.ROWS", 2048)
    torch.manual_seed(1)


def pair(dtype=torch.float64, depth=22):
    """A net with BatchNorm layers that matter (scales of either sign, too), streamed and layer by layer."""
    torch.manual_seed(0)
    net = DenseNet(10, depth=depth, streamed=True)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight, 0.5, 0.5)
            torch.nn.init.normal_(module.bias, 0, 0.3)
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    plain = copy.deepcopy(net.to(dtype))
    plain.streamed = False
    return net, plain


def outcome(net, images, training):
    """Logits, gradients of a loss of them, and the buffers after."""
    net.train(training)
    for parameter in net.parameters():
        parameter.requires_grad_(training)
    x = images.clone().requires_grad_(True)
    logits = net(x)
    loss = (logits.logsumexp(1) * torch.arange(len(x), dtype=x.dtype)).sum()
    wanted = [x, *(net.parameters() if training else [])]
    return [logits.detach(), *torch.autograd.grad(loss, wanted), *(b for b in net.buffers() if b.is_floating_point())]


@pytest.mark.parametrize("training", [False, True])
def test_outputs_gradients_and_running_statistics_are_those_of_the_plain_net(training):
    images = torch.rand(9, 3, 32, 32, dtype=torch.float64)
    ours, plain = (outcome(net, images, training) for net in pair())
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_in_single_precision_with_and_without_the_compiled_kernels(monkeypatch, training, compiled):
    if not compiled:
        monkeypatch.setattr(kernels, "_library", lambda: None)
    elif kernels._library() is None:
        pytest.skip("no C++ compiler here")
    images = torch.rand(9, 3, 32, 32, dtype=torch.float64)
    exact = outcome(pair()[1], images, training)
    ours = outcome(pair(torch.float32)[0], images.float(), training)
    apart = [((a - b).norm() / b.norm().clamp(min=1e-12)).item() for a, b in zip(ours, exact, strict=True) if b.norm()]
    assert apart[0] < 1e-4  # the logits
    assert sorted(apart)[len(apart) // 2] < 1e-4
    assert max(apart) < 0.05  # where a value is all but zero, its ReLU may take the other side


@pytest.mark.parametrize("training", [False, True])
def test_bfloat16_is_as_near_to_the_truth_as_the_plain_net_in_bfloat16(training):
    images = torch.rand(16, 3, 32, 32, dtype=torch.float64)
    exact = outcome(pair()[1], images, training)

    def apart(net):
        with torch.autocast("cpu", torch.bfloat16):
            found = outcome(net, images.float(), training)
        return [((a - b).norm() / b.norm()).item() for a, b in zip(found[:2], exact[:2], strict=True)]

    ours, plain = (apart(net) for net in pair(torch.float32))
    assert all(a < 1.5 * b for a, b in zip(ours, plain, strict=True)), (ours, plain)


def test_an_attack_in_train_mode_leaves_the_running_statistics_alone():
    net, _ = pair()
    net.train()
    before = copy.deepcopy(net.state_dict())
    images = torch.rand(4, 3, 32, 32, dtype=torch.float64).requires_grad_(True)
    with attackable(net, "train"):
        (gradient,) = torch.autograd.grad(net(images).logsumexp(1).sum(), images)
    assert gradient.abs().min() >= 0
    assert gradient.abs().max() > 0
    assert all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values(), strict=True))


def test_parameters_learn_in_eval_mode_too():
    images = torch.rand(4, 3, 32, 32, dtype=torch.float64)
    ours, plain = pair()
    gradients = []
    for net in (ours, plain):
        net.eval()
        gradients.append(torch.autograd.grad(net(images).logsumexp(1).sum(), list(net.parameters())))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_two_passes_before_one_backward_do_not_mix():
    net, plain = pair()
    a, b = torch.rand(2, 3, 3, 32, 32, dtype=torch.float64)
    found = []
    for one in (net, plain):
        one.train()
        loss = one(a).logsumexp(1).sum() + 2 * one(b).logsumexp(1).sum()
        found.append(torch.autograd.grad(loss, list(one.parameters())))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kernels_do_what_pytorchs_operations_do(monkeypatch, dtype):
    if kernels._library() is None:
        pytest.skip("no C++ compiler here")
    x = torch.randn(1000, 50).to(dtype)[:, 7:43]
    d, before = torch.randn(1000, 36).to(dtype), torch.randn(1000, 50).to(dtype)
    scale, shift = torch.randn(2, 36)
    results = []
    for library in (kernels._library(), None):
        monkeypatch.setattr(kernels, "_library", lambda library=library: library)
        out, whole, sums = torch.empty(1000, 36, dtype=dtype), before.clone(), torch.ones(2, 36, dtype=torch.float64)
        kernels.relu_affine(x, scale, shift, out)
        kernels.relu_affine_backward(d, x, scale, shift, whole[:, 7:43], sums)
        copied = kernels.copy_rows(x, torch.empty(1000, 36, dtype=dtype))
        assert torch.equal(copied, x)
        results.append((out.float(), whole.float(), sums))
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-3)


def test_without_a_compiler_the_operations_are_pytorchs(monkeypatch, caplog):
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.delenv("CXX", raising=False)
    with caplog.at_level("INFO"):
        assert kernels._library.__wrapped__() is None
    assert "slower" in caplog.text


def test_a_compiler_that_fails_is_told_and_done_without(monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("CXX", "false")
    monkeypatch.setenv("ALOE_CACHE", str(tmp_path))
    assert kernels._library.__wrapped__() is None
    assert "cannot compile" in caplog.text


@pytest.mark.parametrize("compiled", [False, True])
def test_moments_are_right_far_from_zero_and_where_nothing_varies(monkeypatch, compiled):
    if not compiled:
        monkeypatch.setattr(kernels, "_library", lambda: None)
    elif kernels._library() is None:
        pytest.skip("no C++ compiler here")
    x = torch.randn(5000, 20) + 1000
    x[:, 3] = 7.0
    mean, var = kernels.moments(x)
    torch.testing.assert_close(mean.double(), x.double().mean(0))
    torch.testing.assert_close(var.double(), x.double().var(0, correction=0), rtol=1e-4, atol=1e-9)
    y, factors = torch.randn(5000, 20), torch.randn(3, 20)
    torch.testing.assert_close(
        kernels.combine(x, y, factors, torch.empty(5000, 20)), factors[0] * x + factors[1] * y + factors[2]
    )


def test_a_graph_that_is_kept_can_be_walked_twice():
    net, _ = pair()
    net.train()
    loss = net(torch.rand(4, 3, 32, 32, dtype=torch.float64)).logsumexp(1).sum()
    first = torch.autograd.grad(loss, list(net.parameters()), retain_graph=True)
    second = torch.autograd.grad(loss, list(net.parameters()))
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b)


def test_it_is_streamed_where_the_kernels_are(monkeypatch):
    net = DenseNet(10, depth=10).eval()
    calls = []
    monkeypatch.setattr("aloe_lightning.nets.densenet.dense_stage", lambda x, *_: calls.append(1) or x)
    monkeypatch.setattr(kernels, "_library", lambda: None)
    with torch.no_grad():
        assert net(torch.rand(1, 3, 32, 32)).shape == (1, 10)
        assert not calls
        monkeypatch.setattr(kernels, "_library", lambda: torch.ops)
        with pytest.raises(RuntimeError):  # the first stage's stand-in changes no channels
            net(torch.rand(1, 3, 32, 32))
    assert calls == [1]
