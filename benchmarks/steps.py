"""Training steps of every objective in float32 and bfloat16, and the authors' steps."""

import argparse
from collections.abc import Iterator
from contextlib import nullcontext

import torch

from aloe_lightning.data import Batch
from aloe_lightning.nets import DenseNet, SmallNet
from aloe_lightning.objectives import ADV, ALOE, AOE, OE, Objective, Original
from aloe_lightning.runtime.hardware import compile_net
from aloe_lightning.training.graphs import GraphedForward
from benchmarks import baseline as authors
from benchmarks.lower_bound import forward_work, step_passes
from benchmarks.measure import Ceilings, Timing, timed

NETS = {"small": SmallNet, "densenet": DenseNet}
OBJECTIVES = (ALOE, OE, Original, ADV, AOE)


def random_batch(options: argparse.Namespace, device: torch.device) -> Batch:
    """Draw a batch of noise."""
    torch.manual_seed(0)
    return Batch(
        torch.rand(options.inliers, 3, 32, 32, device=device),
        torch.randint(10, (options.inliers,), device=device),
        torch.rand(options.outliers, 3, 32, 32, device=device),
    )


def baseline(options: argparse.Namespace, device: torch.device) -> Iterator[tuple[str, Timing]]:
    """Time the authors' steps."""
    batch = random_batch(options, device)
    for cls in OBJECTIVES:
        if cls.__name__ not in options.objectives:
            continue
        net = authors.without_optimisations(NETS[options.net](10)).to(device).train()
        sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)

        def step(name: str = cls.__name__, net: torch.nn.Module = net, sgd: torch.optim.SGD = sgd) -> None:
            authors.training_step(name, net, batch.inliers, batch.labels, batch.outliers, sgd)

        yield cls.__name__, timed(step, options.repeats, device)


def ours(options: argparse.Namespace, device: torch.device) -> Iterator[tuple[str, Timing]]:
    """Time `training_step` and an optimiser step as Lightning makes it."""
    batch = random_batch(options, device)
    for cls in OBJECTIVES:
        for bf16 in (False, True):
            if cls.__name__ not in options.objectives:
                continue
            net = NETS[options.net](10)
            if options.net == "densenet":
                net.fused = {"auto": None, "yes": True, "no": False}[options.fused]
            objective = cls(net, channels_last=not options.contiguous).to(device).train()
            if options.compile == "graphs":
                objective.net.forward = GraphedForward(objective.net)
            else:
                compile_net(objective.net, options.compile, device)
            objective.log_step = lambda *_: None  # logging needs a trainer
            sgd, _ = objective.optim.build(objective.net, 100)

            def step(objective: torch.nn.Module = objective, sgd: torch.optim.SGD = sgd, bf16: bool = bf16) -> None:
                with torch.autocast(device.type, torch.bfloat16) if bf16 else nullcontext():
                    loss = objective.training_step(batch, 0)
                sgd.zero_grad()
                loss.backward()
                sgd.step()

            yield f"{cls.__name__}, {'bfloat16' if bf16 else 'float32'}", timed(step, options.repeats, device)


def objective_and_dtype(name: str) -> tuple[type[Objective], str]:
    """Parse the name of a timing of `ours`."""
    objective, dtype = name.split(", ")
    return next(cls for cls in OBJECTIVES if cls.__name__ == objective), dtype


def lower_bound(name: str, options: argparse.Namespace, best: Ceilings) -> dict[str, float]:
    """Return the FLOPs and bytes that a step needs at least, and their seconds at peak performance."""
    objective, dtype = objective_and_dtype(name)
    work = forward_work(NETS[options.net](10))
    passes = step_passes(objective, options.inliers, options.outliers)
    flops, moved = work.flops * passes, work.values * passes * (2 if dtype == "bfloat16" else 4)
    return {"flops": flops, "bytes": moved, "seconds": max(flops / best.flops[dtype], moved / best.bytes)}
