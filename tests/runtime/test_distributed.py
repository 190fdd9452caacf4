"""Several processes decide as one and train as one: two real ones, connected by gloo."""

import os

import pytest
import torch
from torch import distributed

import processes  # noqa: F401  (the server of processes has imported torch)
from aloe_lightning.data.batches import Batch, BatchIndices, EpochSampler
from aloe_lightning.errors import UserError
from aloe_lightning.nets import SmallNet
from aloe_lightning.objectives import OE
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


def epoch():
    """The batches of this process of an epoch of 63 inliers, in batches of 12 of all processes."""
    sizes = {"inlier_batch": share_of(12, "inliers"), "outlier_batch": share_of(24, "outliers")}
    return list(EpochSampler(63, 200, **sizes, seed=3))


def gradient(indices):
    """The gradient of OE in Lightning's hooks on a batch, BatchNorm in eval mode."""
    images = torch.rand(63, 3, 32, 32, generator=generator(0, "images"))
    outliers = torch.rand(200, 3, 32, 32, generator=generator(0, "outliers"))
    objective = OE(small_net(0)).eval()
    objective.log_step = lambda *_: None  # logging needs a trainer
    batch = Batch(images[indices.inliers], indices.inliers % 4, outliers[indices.outliers], 0, indices.weight)
    objective.on_train_batch_start(batch, 0)
    objective.backward(objective.training_step(batch, 0))
    return torch.cat([parameter.grad.flatten() for parameter in objective.net.parameters()])


def joined(batches):
    """The same images as one batch of one process."""
    return BatchIndices(torch.cat([b.inliers for b in batches]), torch.cat([b.outliers for b in batches]), 0, 1.0)


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
    batches, gradients = epoch(), {}
    for step in (2, -1):
        gradients[step] = gradient(batches[step])
        distributed.all_reduce(gradients[step])
    results[rank] = {
        "state": {name: tensor.clone() for name, tensor in net.state_dict().items()},
        "decision": on_first_process(lambda: f"of process {rank}"),
        "refused": refused,
        "largest": largest(10 + rank, torch.device("cpu")),
        "gradients": {step: summed / WORLD for step, summed in gradients.items()},
        "epoch": batches,
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


def test_two_processes_see_each_inlier_of_an_odd_epoch_once_and_twice_as_many_outliers(results):
    whole = [joined(batches) for batches in zip(*(results[rank]["epoch"] for rank in range(WORLD)), strict=True)]
    assert [len(batch.inliers) for batch in whole] == [12] * 5 + [3]
    assert torch.equal(torch.cat([batch.inliers for batch in whole]).sort().values, torch.arange(63))
    assert [len(batch.outliers) for batch in whole] == [24] * 5 + [6]
    outliers = torch.cat([batch.outliers for batch in whole])
    assert len(outliers.unique()) == len(outliers)
    assert [sorted(batch.inliers.tolist()) for batch in whole] == [sorted(b.inliers.tolist()) for b in epoch()]


@pytest.mark.parametrize("step", [2, -1], ids=["full", "last, of 2 + 1 inliers"])
def test_two_processes_have_the_gradient_of_one_on_the_same_batch(results, step):
    expected = gradient(joined([results[rank]["epoch"][step] for rank in range(WORLD)]))
    for rank in range(WORLD):
        torch.testing.assert_close(results[rank]["gradients"][step], expected, rtol=1e-4, atol=1e-6)


def test_a_batch_that_cannot_be_divided_is_refused(monkeypatch):
    monkeypatch.setattr("aloe_lightning.runtime.distributed.rank_and_world_size", lambda: (0, 3))
    assert share_of(63, "inliers") == 21
    with pytest.raises(UserError, match=r"batch.inliers=64 .* not divisible by their number, 3"):
        share_of(64, "inliers")
