"""Outlier mining against a sort in plain Python, in one process and two, and after an interruption."""

import os

import pytest
import torch
from torch import distributed, nn
from torch import multiprocessing as processes

from aloe_lightning.data.batches import EpochSampler
from aloe_lightning.data.images.source import ImageSet
from aloe_lightning.data.mining import OutlierMining

SIZES = {"inlier_batch": 4, "outlier_batch": 6, "seed": 3}


class Mean(nn.Module):
    """Scores that are the images' means, times a weight."""

    def __init__(self, weight=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, images):
        assert not torch.is_grad_enabled()
        assert not self.training
        return self.weight * images.mean((1, 2, 3)).unsqueeze(1)


def outliers(count=200):
    return ImageSet(torch.randint(256, (count, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8))


def sampler(mining, epoch=0, net=None, *, num_inliers=24, world=1):
    sizes = {**SIZES, **{key: SIZES[key] // world for key in ("inlier_batch", "outlier_batch")}}
    made = EpochSampler(num_inliers, 200, **sizes)
    made.set_epoch(epoch)
    images, net = outliers(), net or Mean()
    made.choose_outliers = lambda found, epoch: mining.choose(found, epoch, seed=3, images=images, net=net)
    return made


def mining(quantile=0.125):
    return OutlierMining(lambda outputs: outputs[:, 0], quantile)


def chosen(batches):
    return torch.cat([batch.outliers for batch in batches]).tolist()


@pytest.mark.parametrize("quantile", [0, 0.125, 0.75])
def test_an_epoch_has_the_outliers_that_a_sort_of_its_candidates_gives(quantile):
    made = sampler(mining(quantile), epoch=2)
    found = chosen(made)
    plain = EpochSampler(24 * 4, 200, **SIZES)  # four times the batches: its outliers are the candidates
    candidates = plain._outliers(4 * 36, _order(made))
    means = [outliers().images[i].float().mean().item() for i in candidates.tolist()]
    ordered = [index for _, index in sorted(zip(means, candidates.tolist(), strict=True))]
    first = int(quantile * 144)
    assert sorted(found) == sorted(ordered[first : first + 36])
    assert found != ordered[first : first + 36]  # in random order


def _order(made):
    from aloe_lightning.runtime.seeding import generator

    order = generator(3, "order", made.epoch)
    torch.randperm(made.num_inliers, generator=order)
    return order


def test_inliers_and_batch_sizes_are_those_without_mining():
    plain = EpochSampler(23, 200, **SIZES)
    for with_mining, without in zip(sampler(mining(), num_inliers=23), plain, strict=True):
        assert torch.equal(with_mining.inliers, without.inliers)
        assert (len(with_mining.outliers), with_mining.seed) == (len(without.outliers), without.seed)


def test_each_epoch_is_chosen_anew_and_by_the_net_of_its_beginning():
    one = mining()
    first, second = (chosen(sampler(one, epoch)) for epoch in (0, 1))
    assert first != second
    assert second == chosen(sampler(mining(), epoch=1))
    assert second != chosen(sampler(mining(), epoch=1, net=Mean(-1.0)))


def test_an_interrupted_epoch_goes_on_with_its_choice_though_the_net_has_changed():
    one = mining()
    whole = chosen(sampler(one, epoch=1))
    resumed = mining()
    resumed.load_state(one.state())
    rest = sampler(resumed, epoch=1, net=Mean(-1.0))
    rest.skip_batches(2)
    assert chosen(rest) == whole[12:]
    assert chosen(sampler(resumed, epoch=2, net=Mean(-1.0))) == chosen(sampler(mining(), epoch=2, net=Mean(-1.0)))


def share(rank, port, results):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2"}
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    results[rank] = [batch.outliers.tolist() for batch in sampler(mining(), epoch=1, world=2)]
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_choose_the_outliers_of_one():
    with processes.Manager() as manager:
        shared = manager.dict()
        processes.spawn(share, args=(20000 + os.getpid() % 20000, shared), nprocs=2)
        results = dict(shared)
    for step, batch in enumerate(sampler(mining(), epoch=1)):
        assert sorted(results[0][step] + results[1][step]) == sorted(batch.outliers.tolist())
