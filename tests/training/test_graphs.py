"""The choice of passes that are replayed from CUDA graphs; on a processor, where the pass stands in for its capture."""

import copy
from types import SimpleNamespace

import pytest
import torch

from aloe_lightning.attacks import frozen_eval
from aloe_lightning.errors import UserError
from aloe_lightning.nets import SmallNet, WideResNet
from aloe_lightning.training.graphs import EAGER_PASSES, MOST_GRAPHS, CudaGraphs, GraphedForward, prepare_passes

pytestmark = pytest.mark.filterwarnings("ignore:.*CUDA is not available.*")


@pytest.fixture
def capture(monkeypatch):
    """Replace the capture: it runs the pass three times, as CUDA's does, and may fail after that."""
    state = SimpleNamespace(captures=0, fails=False, streams=[])

    def make_graphed_callables(module, sample):
        state.captures += 1
        for _ in range(3):
            module(*sample)
        if state.fails:
            raise RuntimeError("operation failed due to a previous error during capture\nmore")
        return module

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", make_graphed_callables)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: "stream of the training")
    monkeypatch.setattr(torch.cuda, "set_stream", state.streams.append)
    return state


@pytest.fixture
def nets():
    """A net with replayed passes, and its copy without."""
    torch.manual_seed(0)
    eager = SmallNet(4, width=8).train()
    net = copy.deepcopy(eager)
    net.forward = GraphedForward(net)
    return net, eager


def train(net, images, steps=1):
    for _ in range(steps):
        net.zero_grad()
        net(images).square().sum().backward()


def attack(net, images):
    with frozen_eval(net):
        x = images.clone().requires_grad_(True)
        return torch.autograd.grad(net(x)[:, 0].sum(), x)[0]


def test_the_fourth_pass_of_a_kind_is_captured_and_leaves_gradients_and_statistics_as_they_are(nets, images, capture):
    net, eager = nets
    for step in range(1, EAGER_PASSES + 3):
        for each in nets:
            train(each, images)
        assert capture.captures == (step > EAGER_PASSES)
    for ours, theirs in zip(net.parameters(), eager.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)
    for ours, theirs in zip(net.buffers(), eager.buffers(), strict=True):
        assert torch.equal(ours, theirs)


def test_training_and_attack_and_each_shape_are_kinds_of_their_own(nets, images, capture):
    net, eager = nets
    for count in (6, 5, 4):
        for _ in range(EAGER_PASSES + 2):
            train(net, images[:count])
            assert torch.equal(attack(net, images[:count]), attack(eager_with(eager, net), images[:count]))
    assert capture.captures == len(net.forward.captured) == MOST_GRAPHS
    kinds = {(shape[0], training) for shape, _, (training, _), _, _ in net.forward.captured}
    assert kinds == {(6, True), (6, False), (5, True), (5, False)}


def eager_with(eager, net):
    """The eager net with the running statistics of the other."""
    eager.load_state_dict(net.state_dict())
    return eager


def test_without_gradients_nothing_is_captured(nets, images, capture):
    net, eager = nets
    with torch.no_grad():
        for _ in range(EAGER_PASSES + 2):
            assert torch.equal(net(images), eager(images))
    assert not net.forward.seen
    assert capture.captures == 0


def test_a_pass_that_is_still_open_is_not_used_again(nets, images, capture):
    net, eager = nets
    train(net, images, EAGER_PASSES + 1)
    train(eager, images, EAGER_PASSES + 1)
    (captured,) = net.forward.captured.values()
    calls = captured.calls
    for each in nets:
        each.zero_grad()
        first, second = each(images), each(images.flip(3))
        (first.square().sum() + second.sum()).backward()
    assert captured.calls == calls + 1
    for ours, theirs in zip(net.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_second_or_late_backward_pass_is_an_error(nets, images, capture):
    net, _ = nets
    train(net, images, EAGER_PASSES + 1)
    loss = net(images).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="second backward pass through a CUDA graph of the net: set compile=off"):
        loss.backward()
    forgotten = net(images).sum()
    net.forward.close()
    net(images).sum().backward()
    with pytest.raises(RuntimeError, match="CUDA graph"):
        forgotten.backward()


def test_where_cuda_refuses_a_capture_the_pass_runs_as_before(nets, images, capture, caplog):
    net, eager = nets
    capture.fails = True
    for each in nets:
        train(each, images, EAGER_PASSES + 4)
    assert capture.captures == 1
    assert capture.streams == ["stream of the training"]
    assert caplog.messages == [
        "a pass of the net runs without a CUDA graph: operation failed due to a previous error during capture"
    ]
    for ours, theirs in zip(net.buffers(), eager.buffers(), strict=True):
        assert torch.equal(ours, theirs)


def trainer(device="cuda", world_size=1, accumulate=1):
    strategy = SimpleNamespace(root_device=torch.device(device))
    return SimpleNamespace(
        strategy=strategy, world_size=world_size, accumulate_grad_batches=accumulate, callbacks=[], device=device
    )


@pytest.mark.parametrize(
    ("net", "given", "reason"),
    [
        (SmallNet(4), trainer("cpu"), "does not run on a GPU"),
        (SmallNet(4), trainer(world_size=2), "between devices"),
        (SmallNet(4), trainer(accumulate=2), "accumulated gradients"),
        (torch.nn.Linear(2, 2), trainer(), "Linear may wait for the device"),
        (WideResNet(4, depth=10), trainer(), "the net has dropout"),
    ],
)
def test_graphs_that_are_asked_for_and_impossible_are_refused_with_the_reason(net, given, reason):
    with pytest.raises(UserError, match=f"compile=graphs is not possible here: .*{reason}"):
        prepare_passes(net, "graphs", given)
    assert not given.callbacks


@pytest.mark.parametrize("how", ["auto", "graphs"])
def test_graphs_are_the_default_on_a_gpu_and_end_with_the_training(how):
    given, net = trainer(), SmallNet(4)
    prepare_passes(net, how, given)
    (callback,) = given.callbacks
    assert isinstance(callback, CudaGraphs)
    module = SimpleNamespace(net=net)
    callback.on_train_start(given, module)
    assert isinstance(net.forward, GraphedForward)
    callback.on_train_batch_start(given, module, None, 0)
    callback.on_train_end(given, module)
    assert "forward" not in vars(net)
    assert net(torch.rand(2, 3, 32, 32)).shape == (2, 4)


def test_on_a_processor_nothing_is_prepared_by_default():
    given, net = trainer("cpu"), SmallNet(4)
    prepare_passes(net, "auto", given)
    assert not given.callbacks
    assert net._compiled_call_impl is None
