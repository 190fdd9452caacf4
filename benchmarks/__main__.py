"""`make bench`: seconds a training step, as ratios to the authors' step restated, all in one run on one machine."""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from aloe_lightning.data import Batch
from aloe_lightning.nets import DenseNet, SmallNet
from aloe_lightning.objectives import ADV, ALOE, AOE, OE, Original
from benchmarks.baseline import aloe_step, with_loop_normalisation

NETS = {"small": SmallNet, "densenet": DenseNet}


def median_seconds(step: Callable[[], None], repeats: int, device: torch.device) -> tuple[float, float]:
    """Median and spread (half the range) of the step's wall time after one warm-up."""
    times = []
    for index in range(repeats + 1):
        started = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if index:
            times.append(time.perf_counter() - started)
    return statistics.median(times), (max(times) - min(times)) / 2


def main() -> None:
    """Measure and print; JSON beside the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--net", choices=list(NETS), default="small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--inliers", type=int, default=64)
    parser.add_argument("--outliers", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, default=Path("outputs/benchmark.json"))
    options = parser.parse_args()

    device = torch.device(options.device)
    torch.manual_seed(0)
    batch = Batch(
        torch.rand(options.inliers, 3, 32, 32, device=device),
        torch.randint(10, (options.inliers,), device=device),
        torch.rand(options.outliers, 3, 32, 32, device=device),
    )
    results = {}

    net = with_loop_normalisation(NETS[options.net](10)).to(device).train()
    sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
    results["authors' ALOE step, restated"] = median_seconds(
        lambda: aloe_step(net, batch.inliers, batch.labels, batch.outliers, sgd), options.repeats, device
    )
    for cls in (Original, OE, ADV, AOE, ALOE):
        for bf16 in (False, True):
            objective = cls(NETS[options.net](10)).to(device).train()
            objective.logged = lambda loss, *_: loss  # no trainer here
            sgd, _ = objective.optim.build(objective.net, 100)

            def step(objective=objective, sgd=sgd, bf16=bf16) -> None:  # noqa: ANN001
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    loss = objective.training_step(batch, 0)
                sgd.zero_grad()
                loss.backward()
                sgd.step()

            name = f"{cls.__name__}, {'bfloat16' if bf16 else 'float32'}"
            results[name] = median_seconds(step, options.repeats, device)

    baseline = results["authors' ALOE step, restated"][0]
    title = (
        f"{options.net} at {options.inliers} + {options.outliers} images on {device}, {torch.get_num_threads()} threads"
    )
    table = Table("step", "seconds", "± half range", "restated baseline / this", title=title)
    for name, (seconds, spread) in results.items():
        table.add_row(name, f"{seconds:.3f}", f"{spread:.3f}", f"{baseline / seconds:.1f}")
    Console(width=100).print(table)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({"title": title, "seconds": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
