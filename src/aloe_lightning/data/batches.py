"""Training batches: the choice of inliers and outliers for each step."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from aloe_lightning.data.images.source import ImageSource, Order
from aloe_lightning.runtime.distributed import rank_and_world_size
from aloe_lightning.runtime.seeding import generator, seed_of

CANDIDATES = 4
"""Candidates for each outlier of an epoch where outliers are chosen by the net, as in the code of NTOM and ATOM."""


class Batch(NamedTuple):
    """Input of a training step; uint8 from the loader, float32 in [0, 1] and augmented on the device.

    Attributes:
        inliers: (B, 3, 32, 32).
        labels: int64 (B,).
        outliers: (B', 3, 32, 32), empty for objectives without outliers.
        seed: seed of everything random that is done with this batch.
        weight: number of inliers over the mean number of those of all processes, 1 except in an epoch's last batch.
    """

    inliers: Tensor
    labels: Tensor
    outliers: Tensor
    seed: int = 0
    weight: float = 1.0

    def generator(self, purpose: str) -> torch.Generator:
        """Return a generator on the batch's device for one purpose, such as `augmentation`."""
        return generator(self.seed, purpose, device=self.inliers.device)


class BatchIndices(NamedTuple):
    """Indices of the inliers (B,) and outliers (B',) of one batch, its seed and weight."""

    inliers: Tensor
    outliers: Tensor
    seed: int
    weight: float


class EpochSampler(Sampler[BatchIndices]):
    """Sampler of the batches of an epoch: one pass over the inliers, each batch with its share of outliers.

    The order is a function of seed and epoch alone. No outlier is repeated in an epoch unless there are too few, and
    then every outlier is used k times before any is used k + 1 times. Several processes share the batches of one
    evenly. In the last batch one may have an image more, which its weight states; if there are fewer images than
    processes, they join the batch before.

    Outliers come `shuffled`, or, from a file too large for that, in `blocks`: in the order of the file from a random
    position on, a separate block for each process.

    Args:
        num_inliers: size of the inlier set.
        num_outliers: size of the outlier set, 0 for none.
        inlier_batch: inliers per step and process.
        outlier_batch: outliers per step and process.
        seed: seed of the order.
        outlier_order: order of the outlier set.
    """

    def __init__(
        self,
        num_inliers: int,
        num_outliers: int,
        *,
        inlier_batch: int,
        outlier_batch: int,
        seed: int,
        outlier_order: Order = "shuffled",
    ) -> None:
        self.num_inliers, self.num_outliers = num_inliers, num_outliers
        self.inlier_batch, self.outlier_batch = inlier_batch, outlier_batch if num_outliers else 0
        self.seed, self.outlier_order = seed, outlier_order
        self.epoch = self.skipped = 0
        self.choose_outliers: Callable[[Tensor, int], Tensor] | None = None
        """This process's candidates (4 n,) and the epoch -> its outliers (n,); None: the epoch's first n in order."""

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; Lightning calls this before each one."""
        self.epoch = epoch

    def skip_batches(self, count: int) -> None:
        """Skip the first batches of the next epoch when resuming."""
        self.skipped = count

    def __len__(self) -> int:
        world = rank_and_world_size()[1]
        full, rest = divmod(self.num_inliers, self.inlier_batch * world)
        return full + (rest >= world)

    def __iter__(self) -> Iterator[BatchIndices]:
        rank, world = rank_and_world_size()
        order = generator(self.seed, "order", self.epoch)
        inliers = torch.randperm(self.num_inliers, generator=order)[rank::world]
        last, batch = len(self) - 1, self.inlier_batch * world
        joins = 0 < self.num_inliers % batch < world
        count = len(self) * self.outlier_batch + joins * self._outliers_beside(1)
        if self.choose_outliers is None:
            outliers = self._outliers(count, order)
        else:
            outliers = self.choose_outliers(self._outliers(CANDIDATES * count, order), self.epoch)
        first, self.skipped = self.skipped, 0
        for step in range(first, len(self)):
            begin, begin_outliers = step * self.inlier_batch, step * self.outlier_batch
            chosen = inliers[begin:] if step == last else inliers[begin : begin + self.inlier_batch]
            beside = outliers[begin_outliers : begin_outliers + self._outliers_beside(len(chosen))]
            in_all = self.num_inliers - step * batch if step == last else batch
            seed = seed_of(self.seed, "batch", self.epoch, step, rank)
            yield BatchIndices(chosen, beside, seed, len(chosen) * world / in_all)

    def _outliers_beside(self, inliers: int) -> int:
        """Return the number of outliers in a batch with so many inliers, in the proportion of a full one."""
        return -(-inliers * self.outlier_batch // self.inlier_batch)

    def _outliers(self, count: int, order: torch.Generator) -> Tensor:
        """Return the indices (count,) of this process's outliers in this epoch; empty if there are no outliers."""
        rank, world = rank_and_world_size()
        if count == 0:
            return torch.empty(0, dtype=torch.int64)
        if self.outlier_order == "blocks":
            start = int(torch.randint(self.num_outliers, (), generator=order)) + rank * count
            return torch.arange(start, start + count) % self.num_outliers
        rounds = -(-count * world // self.num_outliers)
        orders = [torch.randperm(self.num_outliers, generator=order) for _ in range(rounds)]
        return torch.cat(orders)[rank::world][:count]


class TrainingImages(Dataset[Batch]):
    """Dataset whose items are whole batches, gathered by their indices."""

    def __init__(self, inliers: ImageSource, outliers: ImageSource | None) -> None:
        self.inliers, self.outliers = inliers, outliers

    def __getitem__(self, indices: BatchIndices) -> Batch:
        assert self.inliers.labels is not None
        inliers, labels = self.inliers.take(indices.inliers), self.inliers.labels[indices.inliers]
        outliers = inliers[:0] if self.outliers is None else self.outliers.take(indices.outliers)
        return Batch(inliers, labels, outliers, indices.seed, indices.weight)
