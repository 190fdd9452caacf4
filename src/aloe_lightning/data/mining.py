"""Outlier mining: before each epoch, choose the outliers that the net tells least well from inliers."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import all_gather_object

from aloe_lightning.attacks import frozen_eval
from aloe_lightning.data.batches import CANDIDATES
from aloe_lightning.data.datamodule import RobustOODData
from aloe_lightning.data.images.source import ImageSource
from aloe_lightning.runtime.distributed import rank_and_world_size
from aloe_lightning.runtime.seeding import generator

BATCH = 500
"""Candidates per forward pass."""


class OutlierMining:
    """Informative outlier mining (Chen et al., arXiv:2006.15207, Algorithm 1).

    Of a pool of N = 4 n candidates, sorted by a score that is higher for outliers, an epoch trains on the n after the
    q N lowest. The net scores the candidates in eval mode and without augmentation (the authors' code augments them
    once, and trains on those images). The choice depends on the net at the beginning of the epoch, so that it is part
    of a training's saved state.

    Args:
        score: outputs of the net (n, K) -> (n,), higher = more outlying.
        quantile: q, at most 0.75, for which all chosen outliers are the easiest ones.
    """

    def __init__(self, score: Callable[[Tensor], Tensor], quantile: float) -> None:
        self.score, self.quantile = score, quantile
        self.epoch = -1
        self.chosen = torch.empty(0, dtype=torch.int64)

    def connect(self, data: RobustOODData, net: nn.Module) -> None:
        """Choose the outliers of a data module's batches."""
        data.choose_outliers_by(partial(self.choose, seed=data.seed, images=data.outlier_images, net=net))

    def choose(self, candidates: Tensor, epoch: int, *, seed: int, images: ImageSource, net: nn.Module) -> Tensor:
        """Return the outliers of this process in an epoch, a quarter of the candidates, in random order.

        Args:
            candidates: indices of this process's candidates (4 n,).
            epoch: number of the epoch; the choice of an epoch is made once.
            seed: seed of the order.
            images: outliers that the indices refer to.
            net: images (n, 3, H, W) in [0, 1] -> outputs (n, K).
        """
        rank, world = rank_and_world_size()
        if epoch != self.epoch:
            pool, scores = (_of_all(values) for values in (candidates, self._scores(candidates, images, net)))
            first, count = int(self.quantile * len(pool)), len(pool) // CANDIDATES
            chosen = pool[scores.argsort(stable=True)[first : first + count]]
            self.chosen = chosen[torch.randperm(count, generator=generator(seed, "mining", epoch))]
            self.epoch = epoch
        return self.chosen[rank::world]

    def state(self) -> dict[str, Any]:
        """Return the choice of the current epoch."""
        return {"epoch": self.epoch, "chosen": self.chosen}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore the choice of an epoch."""
        self.epoch, self.chosen = state["epoch"], state["chosen"]

    @torch.no_grad()
    def _scores(self, candidates: Tensor, images: ImageSource, net: nn.Module) -> Tensor:
        """Return the scores of candidates (m,), each distinct image scored once."""
        distinct, position = torch.unique(candidates, return_inverse=True)
        device = next(net.parameters()).device
        with frozen_eval(net):
            parts = [
                self.score(net(images.take(part).to(device).float().div_(255))).cpu() for part in distinct.split(BATCH)
            ]
        return torch.cat(parts)[position]


def _of_all(values: Tensor) -> Tensor:
    """Return the values of all processes, (m,) of each, interleaved as `EpochSampler` deals them out."""
    world = rank_and_world_size()[1]
    if world == 1:
        return values
    shares: list[Tensor] = [values] * world
    all_gather_object(shares, values)
    return torch.stack(shares, 1).flatten()
