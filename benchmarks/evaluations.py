"""The attacked evaluation of one model on in-distribution images and six OOD sets of as many images each."""

import argparse
from collections.abc import Iterator

import torch

from aloe_lightning.attacks import ConfidenceAttack
from aloe_lightning.data import ImageSet
from aloe_lightning.detectors import MSP, ODIN
from aloe_lightning.evaluation.evaluate import EvaluationSettings, evaluate
from aloe_lightning.runtime.hardware import compile_net
from benchmarks import baseline
from benchmarks.measure import Timing, timed
from benchmarks.steps import NETS


def random_sets(images: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Noise of 8 bits: in-distribution images and six OOD sets."""
    draws = torch.Generator().manual_seed(0)
    sets = torch.randint(0, 256, (7, images, 3, 32, 32), generator=draws, dtype=torch.uint8)
    return sets[0], {f"ood {index}": sets[index] for index in range(1, 7)}


BASELINE_IMAGES = 10


def restated(options: argparse.Namespace, device: torch.device) -> Iterator[tuple[str, Timing]]:
    """As the authors' code does it, ten images of each set: it takes ten at a time, so that more take as much more."""
    net = baseline.as_the_authors(NETS[options.net](10)).to(device)
    inliers, ood = random_sets(BASELINE_IMAGES)
    pixels = {name: images.to(device).float() / 255 for name, images in ood.items()}
    known = inliers.to(device).float() / 255
    found = timed(lambda: baseline.evaluation(net, known, pixels), 1, device, warm_up=False)
    times = options.images / BASELINE_IMAGES
    yield "evaluation", Timing(found.seconds * times, found.spread * times, found.peak_mb)


def ours(options: argparse.Namespace, device: torch.device) -> Iterator[tuple[str, Timing]]:
    """With `aloe_lightning.evaluation`."""
    inliers, ood = random_sets(options.images)
    known, sets = ImageSet(inliers), {name: ImageSet(images) for name, images in ood.items()}
    for bf16 in (False, True):
        net = NETS[options.net](10).to(device, memory_format=torch.channels_last).eval()
        compile_net(net, options.compile, device)
        settings = EvaluationSettings(bf16=bf16, classifier=False)

        def work(net: torch.nn.Module = net, settings: EvaluationSettings = settings) -> None:
            evaluate(net, {"msp": MSP(), "odin": ODIN()}, known, sets, ConfidenceAttack(epsilon=1), settings)

        with torch.no_grad():
            net(torch.rand(2, 3, 32, 32, device=device))  # the kernels are compiled
        yield f"evaluation, {'bfloat16' if bf16 else 'float32'}", timed(work, 1, device, warm_up=device.type == "cuda")
