import platform

import pytest
import torch

from aloe_lightning.nets import SmallNet
from aloe_lightning.runtime.hardware import compile_net, keep_freed_memory, prepare_process

CPU = torch.device("cpu")


def test_freed_memory_is_kept_where_glibc_has_it():
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")


def test_tf32_is_what_the_config_says():
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    try:
        for wanted in (True, False):
            prepare_process(CPU, tf32=wanted)
            assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == (wanted, wanted)
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.parametrize(("how", "device"), [("auto", CPU), ("off", CPU), ("off", torch.device("cuda"))])
def test_nothing_is_compiled_unless_it_is_worth_it(how, device):
    assert not compile_net(SmallNet(10), how, device)


@pytest.mark.slow
def test_a_compiled_net_gives_the_same_gradients_training_and_frozen():
    torch.manual_seed(0)
    net, compiled = SmallNet(10), SmallNet(10)
    compiled.load_state_dict(net.state_dict())
    assert compile_net(compiled, "default", CPU)
    assert list(compiled.state_dict()) == list(net.state_dict())
    images = torch.rand(6, 3, 32, 32)
    for training in (True, False):
        found = []
        for one in (net, compiled):
            one.train(training)
            x = images.clone().requires_grad_(True)
            wanted = [x, *one.parameters()] if training else [x]
            found.append(torch.autograd.grad(one(x).logsumexp(1).sum(), wanted))
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
