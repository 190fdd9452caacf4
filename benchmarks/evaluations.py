"""Attacked evaluation of one net on in-distribution images and six OOD sets of the same size."""

import argparse
from collections.abc import Iterator

import torch

from aloe_lightning.attacks import PGD
from aloe_lightning.data import ImageSet
from aloe_lightning.detectors import MSP, ODIN
from aloe_lightning.evaluation.evaluate import EvaluationSettings, evaluate
from aloe_lightning.runtime.hardware import compile_net
from benchmarks import baseline as authors
from benchmarks.measure import Timing, timed
from benchmarks.steps import NETS


def random_sets(images: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Draw uint8 noise as in-distribution images and six OOD sets."""
    draws = torch.Generator().manual_seed(0)
    sets = torch.randint(0, 256, (7, images, 3, 32, 32), generator=draws, dtype=torch.uint8)
    return sets[0], {f"ood {index}": sets[index] for index in range(1, 7)}


BASELINE_IMAGES = 10


def baseline(options: argparse.Namespace, device: torch.device) -> Iterator[tuple[str, Timing]]:
    """Time the authors' evaluation on ten images of each set, scaled up: it takes ten images at a time."""
    net = authors.without_optimisations(NETS[options.net](10)).to(device)
    inliers, ood = random_sets(BASELINE_IMAGES)
    pixels = {name: images.to(device).float() / 255 for name, images in ood.items()}
    id_pixels = inliers.to(device).float() / 255
    timing = timed(lambda: authors.evaluation(net, id_pixels, pixels), 1, device, warm_up=False)
    factor = options.images / BASELINE_IMAGES
    yield "evaluation", Timing(timing.seconds * factor, timing.spread * factor, timing.peak_mb)


def ours(options: argparse.Namespace, device: torch.device) -> Iterator[tuple[str, Timing]]:
    """Time `aloe_lightning.evaluation` in float32 and bfloat16."""
    inliers, ood = random_sets(options.images)
    id_set, ood_sets = ImageSet(inliers), {name: ImageSet(images) for name, images in ood.items()}
    for bf16 in (False, True):
        net = NETS[options.net](10).to(device, memory_format=torch.channels_last).eval()
        compile_net(net, options.compile, device)
        settings = EvaluationSettings(bf16=bf16, classifier=False)

        def work(net: torch.nn.Module = net, settings: EvaluationSettings = settings) -> None:
            evaluate(net, {"msp": MSP(), "odin": ODIN()}, id_set, ood_sets, PGD(epsilon=1, steps=10), settings)

        with torch.no_grad():
            net(torch.rand(2, 3, 32, 32, device=device))  # compiles the kernels
        yield f"evaluation, {'bfloat16' if bf16 else 'float32'}", timed(work, 1, device, warm_up=device.type == "cuda")
