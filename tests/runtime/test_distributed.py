"""Several processes decide as one and train as one: two real ones, connected by gloo."""

import os

import pytest
import torch
from torch import distributed

import processes  # noqa: F401  (the server of processes has imported torch)
from aloe_lightning.data.batches import EpochSampler
from aloe_lightning.errors import UserError
from aloe_lightning.losses import cross_entropy, uniform_cross_entropy
from aloe_lightning.nets import SmallNet
from aloe_lightning.runtime.distributed import largest, on_first_process, share_of, share_state
from aloe_lightning.runtime.seeding import generator

WORLD = 2


def small_net(seed):
    torch.manual_seed(seed)
    net = SmallNet(4, width=8)
    for name, buffer in net.named_buffers():
        if "running" in name:
            buffer.add_(torch.rand(buffer.shape))
    return net


def gradient(rank, world_size):
    """The gradient of OE's loss on this process's share of the third batch of an epoch, BatchNorm in eval mode."""
    images = torch.rand(61, 3, 32, 32, generator=generator(0, "images"))
    outliers = torch.rand(90, 3, 32, 32, generator=generator(0, "outliers"))
    sizes = {"inlier_batch": share_of(12, "inliers"), "outlier_batch": share_of(24, "outliers")}
    batch = list(EpochSampler(61, 90, **sizes, seed=3))[2]
    net = small_net(0).eval()
    loss = cross_entropy(net(images[batch.inliers]), batch.inliers % 4).mean()
    (loss + 0.5 * uniform_cross_entropy(net(outliers[batch.outliers])).mean()).backward()
    return torch.cat([parameter.grad.flatten() for parameter in net.parameters()]), batch.inliers


def refuse():
    raise UserError("the first process refuses")


def work(rank, port, results):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(WORLD)}
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    net = small_net(rank)
    share_state(net)
    try:
        on_first_process(refuse)
    except UserError as error:
        refused = str(error)
    summed, inliers = gradient(rank, WORLD)
    distributed.all_reduce(summed)
    results[rank] = {
        "state": {name: tensor.clone() for name, tensor in net.state_dict().items()},
        "decision": on_first_process(lambda: f"of process {rank}"),
        "refused": refused,
        "largest": largest(10 + rank, torch.device("cpu")),
        "gradient": summed / WORLD,
        "inliers": inliers,
    }
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def results():
    with torch.multiprocessing.Manager() as manager:
        shared = manager.dict()
        port = 20000 + os.getpid() % 20000
        torch.multiprocessing.start_processes(work, (port, shared), nprocs=WORLD, start_method="forkserver")
        yield dict(shared)


def test_every_process_has_the_net_of_the_first_with_its_running_statistics(results):
    expected = small_net(0).state_dict()
    assert any("running_mean" in name for name in expected)
    for rank in range(WORLD):
        assert all(torch.equal(tensor, expected[name]) for name, tensor in results[rank]["state"].items())


def test_the_first_process_decides_and_its_error_is_everybodys(results):
    assert [results[rank]["decision"] for rank in range(WORLD)] == ["of process 0"] * 2
    assert [results[rank]["refused"] for rank in range(WORLD)] == ["the first process refuses"] * 2
    assert [results[rank]["largest"] for rank in range(WORLD)] == [11, 11]


def test_two_processes_have_the_gradient_of_one_on_the_same_batch(results):
    expected, inliers = gradient(0, 1)
    assert sorted(torch.cat([results[rank]["inliers"] for rank in range(WORLD)]).tolist()) == sorted(inliers.tolist())
    for rank in range(WORLD):
        torch.testing.assert_close(results[rank]["gradient"], expected, rtol=1e-4, atol=1e-6)


def test_a_batch_that_cannot_be_divided_is_refused(monkeypatch):
    monkeypatch.setattr("aloe_lightning.runtime.distributed.rank_and_world_size", lambda: (0, 3))
    assert share_of(63, "inliers") == 21
    with pytest.raises(UserError, match=r"batch.inliers=64 .* not divisible by their number, 3"):
        share_of(64, "inliers")
