"""Speed of everything before a training step: reading, augmentation, search for duplicates."""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from aloe_lightning.data import BatchSizes, ImageSet, MappedImages, RobustOODData, TinyImages
from aloe_lightning.data.augmentation import random_crop_flip
from aloe_lightning.data.images.duplicates import exact_hashes, perceptual_hashes
from aloe_lightning.data.sets.sign_warp import warp_signs
from aloe_lightning.runtime.seeding import generator
from benchmarks.measure import Timing, timed

COUNT, BATCH = 40_000, 128
PIPELINE = "whole pipeline, an image of 64 + 128, float32 on the device"


class InMemory:
    """Inliers in memory, cropped and flipped like those of CIFAR-10."""

    num_classes, mean, std = 10, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    augment_outliers, split = True, "test"

    def __init__(self, images: torch.Tensor) -> None:
        self.images = ImageSet(images, torch.arange(len(images)) % 10)

    def train_set(self) -> ImageSet:
        return self.images

    def excluded_from_training(self) -> dict[str, ImageSet]:
        return {}

    def test_set(self) -> ImageSet:
        return ImageSet(self.images.images[:0])

    def augmented(self, images: torch.Tensor, labels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return random_crop_flip(images, generator=generator)


class OpenedOutliers:
    """Outliers whose file is already open."""

    def __init__(self, source: MappedImages) -> None:
        self.source = source

    def load(self) -> MappedImages:
        return self.source


def in_batches(take: Callable[[torch.Tensor], torch.Tensor], order: torch.Tensor) -> Callable[[], int]:
    """Return a function that takes all indices, one batch at a time."""

    def work() -> int:
        for indices in torch.split(order, BATCH):
            take(indices)
        return len(order)

    return work


def ours(options: argparse.Namespace, device: torch.device) -> Iterator[tuple[str, Timing]]:
    """Yield the time per image in seconds."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (COUNT, 32, 32, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        tiny_folder = Path(folder) / "80M_Tiny_Images"
        tiny_folder.mkdir()
        pixels.tofile(tiny_folder / "tiny_images.bin")
        excluded = np.sort(rng.choice(COUNT, COUNT // 600, replace=False)) + 1  # as sparse as CIFAR is in the real file
        np.savetxt(tiny_folder / "80mn_cifar_idxs.txt", excluded, fmt="%d")
        np.save(Path(folder) / "outliers.npy", pixels)
        tiny = TinyImages(root=folder, verify=False).load()
        mapped = MappedImages(np.load(Path(folder) / "outliers.npy", mmap_mode="r"))
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
        shuffled = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0))

        inliers = InMemory(images.flip(3))  # flipped, so that no outlier is a duplicate
        data = RobustOODData(inliers, OpenedOutliers(mapped), {}, batch=BatchSizes(inliers=64, outliers=BATCH), seed=0)
        data.setup("fit")

        def epoch() -> int:
            count = 0
            for batch in data.train_dataloader():
                prepared = data.on_after_batch_transfer(data.transfer_batch_to_device(batch, device, 0), 0)
                count += len(prepared.inliers) + len(prepared.outliers)
            return count

        draws = generator(0, "benchmark")
        work = {
            "tiny_images.bin, blocks from the page cache": in_batches(tiny.take, torch.arange(len(tiny))),
            ".npy, shuffled from the page cache": in_batches(mapped.take, shuffled),
            "crop and flip": in_batches(lambda i: random_crop_flip(images[i], generator=draws), shuffled),
            "warping signs": lambda: len(warp_signs(images, draws)),
            "exact hashes": lambda: len(exact_hashes(images)),
            "perceptual hashes": lambda: len(perceptual_hashes(images)),
            PIPELINE: epoch,
        }
        for name, run in work.items():
            counts: list[int] = []
            timing = timed(lambda run=run, counts=counts: counts.append(run()), options.repeats, device)
            yield name, Timing(timing.seconds / counts[0], timing.spread / counts[0], timing.peak_mb)
