"""Training batches: which inliers go with which outliers, and nothing else."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from aloe_lightning.data.images.source import ImageSource, Order
from aloe_lightning.runtime.distributed import rank_and_world_size
from aloe_lightning.runtime.seeding import generator, seed_of


class Batch(NamedTuple):
    """What a training step sees; uint8 from the loader, float32 in [0, 1] and augmented on the device.

    Attributes:
        inliers: (B, 3, 32, 32).
        labels: int64 (B,).
        outliers: (B', 3, 32, 32), empty for objectives without outliers.
        seed: of everything random that is done with this batch.
    """

    inliers: Tensor
    labels: Tensor
    outliers: Tensor
    seed: int = 0

    def generator(self, purpose: str) -> torch.Generator:
        """A generator on the batch's device for one purpose, such as `augmentation`."""
        return generator(self.seed, purpose, device=self.inliers.device)


class BatchIndices(NamedTuple):
    """Indices of one batch, inliers (B,) and outliers (B',), and its seed."""

    inliers: Tensor
    outliers: Tensor
    seed: int


class EpochSampler(Sampler[BatchIndices]):
    """The batches of an epoch: one pass over the inliers, as many outliers beside them as the batch sizes say.

    The order is a function of seed and epoch alone. No outlier comes twice in an epoch unless there are too few of
    them, and then none comes a third time before all came twice. Several processes share an epoch evenly; what
    does not divide by their number sits out that epoch.

    Outliers come `shuffled`, or, of a file too large for that, in `blocks`: from a random place on in the order of the
    file, each process in a stretch of its own.

    Args:
        num_inliers: size of the inlier set.
        num_outliers: size of the outlier set, 0 for none.
        inlier_batch: inliers a process takes per step.
        outlier_batch: outliers a process takes per step.
        seed: of the order.
        outlier_order: of the outlier set.
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
        self.epoch = self.behind = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def skip_batches(self, batches: int) -> None:
        """Leave out the batches of the next epoch that a training which goes on has behind it."""
        self.behind = batches

    def __len__(self) -> int:
        return -(-(self.num_inliers // rank_and_world_size()[1]) // self.inlier_batch)

    def __iter__(self) -> Iterator[BatchIndices]:
        rank, world = rank_and_world_size()
        order = generator(self.seed, "order", self.epoch)
        share = self.num_inliers // world
        inliers = torch.randperm(self.num_inliers, generator=order)[: share * world][rank::world]
        outliers = self._outliers(len(self) * self.outlier_batch, order)
        first, self.behind = self.behind, 0
        for step in range(first, len(self)):
            chosen = inliers[step * self.inlier_batch : (step + 1) * self.inlier_batch]
            beside = outliers[step * self.outlier_batch : (step + 1) * self.outlier_batch]
            beside = beside[: -(-len(chosen) * self.outlier_batch // self.inlier_batch)]
            yield BatchIndices(chosen, beside, seed_of(self.seed, "batch", self.epoch, step, rank))

    def _outliers(self, wanted: int, order: torch.Generator) -> Tensor:
        """Indices (wanted,) of the outliers of this process in this epoch; empty if there are none."""
        rank, world = rank_and_world_size()
        if self.num_outliers == 0:
            return torch.empty(0, dtype=torch.int64)
        if self.outlier_order == "blocks":
            start = int(torch.randint(self.num_outliers, (), generator=order)) + rank * wanted
            return torch.arange(start, start + wanted) % self.num_outliers
        rounds = -(-wanted * world // self.num_outliers)
        orders = [torch.randperm(self.num_outliers, generator=order) for _ in range(rounds)]
        return torch.cat(orders)[rank::world][:wanted] if orders else torch.empty(0, dtype=torch.int64)


class TrainingImages(Dataset[Batch]):
    """Gathers the images of a plan."""

    def __init__(self, inliers: ImageSource, outliers: ImageSource | None) -> None:
        self.inliers, self.outliers = inliers, outliers

    def __getitem__(self, plan: BatchIndices) -> Batch:
        assert self.inliers.labels is not None
        outliers = torch.empty(0, 3, 32, 32, dtype=torch.uint8)
        if self.outliers is not None:
            outliers = self.outliers.take(plan.outliers)
        return Batch(self.inliers.take(plan.inliers), self.inliers.labels[plan.inliers], outliers, plan.seed)
