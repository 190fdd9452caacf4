"""The fused dense blocks against the layer-by-layer net: the same function, the same gradients."""

import copy

import pytest
import torch

from aloe_lightning.attacks import frozen_eval
from aloe_lightning.kernels import compiler, reference
from aloe_lightning.nets import DenseNet


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(1)


@pytest.fixture(params=["training", "training with PyTorch operations", "frozen"])
def training(request, monkeypatch):
    """False for a frozen net, which only compiled operations fuse."""
    if "PyTorch" in request.param:
        monkeypatch.setattr(compiler, "library", lambda: None)
    elif compiler.library() is None:
        pytest.skip("no C++ compiler here")
    return request.param != "frozen"


def pair(dtype=torch.float64, depth=22, growth_rate=12):
    """Return a net with non-trivial BatchNorm layers (scales of both signs), fused and layer by layer."""
    torch.manual_seed(0)
    net = DenseNet(10, depth=depth, growth_rate=growth_rate, fused=True)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight, 0.5, 0.5)
            torch.nn.init.normal_(module.bias, 0, 0.3)
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    plain = copy.deepcopy(net.to(dtype))
    plain.fused = False
    return net, plain


def outcome(net, images, training):
    """Return logits, gradients of a loss of them, and the buffers after the pass."""
    net.train(training)
    for parameter in net.parameters():
        parameter.requires_grad_(training)
    x = images.clone().requires_grad_(True)
    logits = net(x)
    loss = (logits.logsumexp(1) * torch.arange(len(x), dtype=x.dtype)).sum()
    inputs = [x, *(net.parameters() if training else [])]
    return [logits.detach(), *torch.autograd.grad(loss, inputs), *(b for b in net.buffers() if b.is_floating_point())]


@pytest.mark.parametrize("growth_rate", [12, 7])
def test_outputs_gradients_and_running_statistics_are_those_of_the_plain_net(training, growth_rate):
    images = torch.rand(9, 3, 32, 32, dtype=torch.float64)
    fused, plain = (outcome(net, images, training) for net in pair(growth_rate=growth_rate))
    for a, b in zip(fused, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_in_single_precision(training):
    images = torch.rand(9, 3, 32, 32, dtype=torch.float64)
    exact = outcome(pair()[1], images, training)
    fused = outcome(pair(torch.float32)[0], images.float(), training)
    errors = [
        ((a - b).norm() / b.norm().clamp(min=1e-12)).item() for a, b in zip(fused, exact, strict=True) if b.norm()
    ]
    assert errors[0] < 1e-4  # the logits
    assert sorted(errors)[len(errors) // 2] < 1e-4
    assert max(errors) < 0.05  # where a value is nearly zero, its ReLU may take the other side


@pytest.mark.parametrize("growth_rate", [12, 7])
def test_bfloat16_is_as_near_to_the_truth_as_the_plain_net_in_bfloat16(training, growth_rate):
    images = torch.rand(16, 3, 32, 32, dtype=torch.float64)
    exact = outcome(pair(growth_rate=growth_rate)[1], images, training)

    def errors(net):
        with torch.autocast("cpu", torch.bfloat16):
            results = outcome(net, images.float(), training)
        return [((a - b).norm() / b.norm()).item() for a, b in zip(results[:2], exact[:2], strict=True)]

    fused, plain = (errors(net) for net in pair(torch.float32, growth_rate=growth_rate))
    assert all(a < 1.5 * b for a, b in zip(fused, plain, strict=True)), (fused, plain)


def test_an_attack_in_train_mode_leaves_the_running_statistics_alone():
    net, _ = pair()
    net.train()
    before = copy.deepcopy(net.state_dict())
    images = torch.rand(4, 3, 32, 32, dtype=torch.float64).requires_grad_(True)
    with frozen_eval(net, "train"):
        (gradient,) = torch.autograd.grad(net(images).logsumexp(1).sum(), images)
    assert gradient.abs().min() >= 0
    assert gradient.abs().max() > 0
    assert all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values(), strict=True))


def test_parameters_learn_in_eval_mode_too():
    images = torch.rand(4, 3, 32, 32, dtype=torch.float64)
    gradients = []
    for net in pair():
        net.eval()
        gradients.append(torch.autograd.grad(net(images).logsumexp(1).sum(), list(net.parameters())))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_two_passes_before_one_backward_do_not_mix():
    a, b = torch.rand(2, 3, 3, 32, 32, dtype=torch.float64)
    gradients = []
    for net in pair():
        net.train()
        loss = net(a).logsumexp(1).sum() + 2 * net(b).logsumexp(1).sum()
        gradients.append(torch.autograd.grad(loss, list(net.parameters())))
    for fused, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-9, atol=1e-10)


def test_weights_that_change_before_the_backward_pass_do_not_count():
    net, _ = pair()
    for training in (True, False):
        net.train(training).requires_grad_(training)
        images = torch.rand(2, 3, 32, 32, dtype=torch.float64).requires_grad_(True)
        (expected,) = torch.autograd.grad(net(images).logsumexp(1).sum(), images)
        loss = net(images).logsumexp(1).sum()
        with torch.no_grad():
            for block in (net.block1, net.block2, net.block3):
                for parameter in block.parameters():
                    parameter.mul_(1.5)
        (gradient,) = torch.autograd.grad(loss, images)
        torch.testing.assert_close(gradient, expected)


def test_results_do_not_depend_on_the_number_of_threads():
    net, _ = pair(torch.float32)
    images = torch.rand(20, 3, 32, 32)
    results = []
    for threads in (1, 2):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with torch.autocast("cpu", torch.bfloat16):
                net.eval().requires_grad_(False)
                x = images.clone().requires_grad_(True)
                logits = net(x)
                results.append((logits, *torch.autograd.grad(logits.float().logsumexp(1).sum(), x)))
        finally:
            torch.set_num_threads(before)
    for single, double in zip(*results, strict=True):
        assert torch.equal(single, double)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("channels", [3, 16, 50, 97])
@pytest.mark.parametrize(("side", "pool", "images"), [(8, 2, 5), (5, 5, 3), (4, 4, 70), (16, 2, 3), (32, 8, 1)])
def test_kernels_do_what_pytorchs_operations_do(monkeypatch, dtype, channels, side, pool, images):
    if compiler.library() is None:
        pytest.skip("no C++ compiler here")
    count, sums = images * side**2, torch.promote_types(dtype, torch.float32)
    whole, gradient = torch.randn(2, count, channels + 20).to(dtype)
    x, d = whole[:, 3 : 3 + channels], gradient[:, :11]
    norm, terms = torch.randn(2, channels, dtype=sums), torch.randn(2, 11, dtype=sums) / 5
    results = []
    for library in (compiler.library(), None):
        monkeypatch.setattr(compiler, "library", lambda library=library: library)
        operations = compiler.operations(x.device, dtype)
        assert operations is (library or reference)
        outputs = []
        for kernel in (1, 3):
            weight = torch.randn(11, channels, kernel, kernel, generator=torch.Generator().manual_seed(2)).to(sums) / 5
            out = torch.full((count, 20), 7.0, dtype=dtype)
            new = out[:, 5:16]
            packed = operations.pack_weight(weight, dtype)
            outputs += [operations.norm_conv(x, *norm, packed, kernel, side, new), new.clone()]
            assert (out[:, :5] == 7).all()
            assert (out[:, 16:] == 7).all()
            for add in (False, True):
                dx = torch.full((count, channels + 4), 0.5, dtype=dtype)
                packed = compiler.pack_weight_backward(weight, dtype)
                outputs += operations.norm_conv_backward(
                    d, x[:, :1].expand(-1, 11).contiguous(), terms, x, *norm, packed, kernel, side,
                    dx[:, 2 : 2 + channels], add, True,
                )  # fmt: skip
                outputs.append(dx)
        pooled, dx = torch.empty(count // pool**2, channels, dtype=dtype), torch.empty(count, channels, dtype=dtype)
        operations.norm_pool(x, *norm, side, pool, pooled)
        outputs += [pooled, operations.norm_pool_backward(pooled, x, *norm, side, pool, dx), dx]
        total = torch.empty(count, 11, dtype=dtype)
        operations.add_batchnorm_terms(d, gradient[:, 2:13], terms, total)
        outputs += [operations.moments(x), total]
        results.append(outputs)
    tolerance = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 2e-2}[dtype]
    for compiled, expected in zip(*results, strict=True):
        compiled, expected = compiled.double(), expected.double()
        assert (compiled - expected).abs().max() <= tolerance * expected.abs().max()


def test_without_a_compiler_the_operations_are_pytorchs(monkeypatch, caplog):
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.delenv("CXX", raising=False)
    with caplog.at_level("INFO"):
        assert compiler.library.__wrapped__() is None
    assert "slower" in caplog.text


def test_a_failing_compiler_is_logged_and_pytorch_takes_over(monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("CXX", "false")
    monkeypatch.setenv("ALOE_CACHE", str(tmp_path))
    assert compiler.library.__wrapped__() is None
    assert "cannot compile" in caplog.text


@pytest.mark.parametrize("compiled", [False, True])
def test_moments_are_right_far_from_zero_and_where_nothing_varies(monkeypatch, compiled):
    if not compiled:
        monkeypatch.setattr(compiler, "library", lambda: None)
    elif compiler.library() is None:
        pytest.skip("no C++ compiler here")
    x = torch.randn(5000, 20) + 1000
    x[:, 3] = 7.0
    mean, var = compiler.operations(x.device, x.dtype).moments(x)
    torch.testing.assert_close(mean, x.double().mean(0), rtol=1e-6, atol=0)
    torch.testing.assert_close(var, x.double().var(0, correction=0), rtol=1e-4, atol=1e-9)


def test_a_graph_that_is_kept_can_be_walked_twice():
    net, _ = pair()
    net.train()
    loss = net(torch.rand(4, 3, 32, 32, dtype=torch.float64)).logsumexp(1).sum()
    first = torch.autograd.grad(loss, list(net.parameters()), retain_graph=True)
    second = torch.autograd.grad(loss, list(net.parameters()))
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("operation", ["fused_dense_block", "frozen_dense_block"])
def test_blocks_are_fused_where_the_kernels_are(monkeypatch, operation):
    net = DenseNet(10, depth=10).train(operation == "fused_dense_block").requires_grad_(False)
    calls = []
    monkeypatch.setattr(f"aloe_lightning.nets.densenet.{operation}", lambda x, *_: calls.append(1) or x)
    monkeypatch.setattr(compiler, "library", lambda: None)
    assert net(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    assert not calls
    monkeypatch.setattr(compiler, "library", lambda: torch.ops)
    with torch.autocast("cpu", torch.float16):
        assert net(torch.rand(2, 3, 32, 32)).shape == (2, 10)  # there are no kernels for this type
    assert not calls
    with pytest.raises(RuntimeError):  # the first block's replacement adds no channels
        net(torch.rand(2, 3, 32, 32))
    assert calls == [1]
