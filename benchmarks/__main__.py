"""`python -m benchmarks`: every speed as a ratio to a reimplementation of the authors' code, in one run on one machine.

Each part runs in a separate process, so that parts share neither memory nor settings. Prints tables and writes JSON.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from aloe_lightning.runtime.hardware import prepare_process
from benchmarks import data, evaluations, start, steps
from benchmarks.measure import Ceilings, ceilings

BASELINE = {"steps": steps.baseline, "evaluation": evaluations.baseline}
OURS = {
    "steps": steps.ours,
    "evaluation": evaluations.ours,
    "data": data.ours,
    "lightning": start.lightning,
    "start": start.ours,
}


def arguments(flags: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--parts", nargs="+", choices=list(OURS), default=list(OURS), help="what to measure (all)")
    add("--net", choices=list(steps.NETS), default="densenet")
    add("--device", default="cpu")
    add("--objectives", nargs="+", default=[cls.__name__ for cls in steps.OBJECTIVES])
    add("--inliers", type=int, default=64)
    add("--outliers", type=int, default=128)
    add("--images", type=int, default=100, help="images in each of the seven sets of the evaluation")
    add("--repeats", type=int, default=3)
    add("--compile", default="auto", help="graphs, or torch.compile: auto, off, default, reduce-overhead, max-autotune")
    add("--fused", choices=["auto", "yes", "no"], default="auto", help="run each dense block as one operation")
    add("--contiguous", action="store_true", help="do not use channels-last")
    add("--keep-memory", choices=["yes", "no"], default="yes", help="no: return freed memory to the operating system")
    add("--baseline", choices=["yes", "no"], default="yes", help="no: do not measure the baseline")
    add("--json", type=Path, default=Path("outputs/benchmark.json"))
    add("--only", nargs=2, help=argparse.SUPPRESS)  # in a child process: part and side
    return parser.parse_args(flags)


def run_child(options: argparse.Namespace) -> None:
    """Measure one part of one side (`ours` or `baseline`) and write the result to the JSON file."""
    part, side = options.only
    device = torch.device(options.device)
    if side == "ours" and options.keep_memory == "yes":
        prepare_process(device, tf32=False)
    if part == "ceilings":
        results: dict[str, Any] = asdict(ceilings(device))
    else:
        results = {}
        for name, timing in (BASELINE if side == "baseline" else OURS)[part](options, device):
            results[name] = asdict(timing)
            print(f"{side} {name}: {timing.seconds:.4f} s ± {timing.spread:.4f}", file=sys.stderr, flush=True)
    options.json.write_text(json.dumps(results))


def measure_in_child(flags: list[str], part: str, side: str) -> dict[str, Any]:
    """Measure one part of one side in a child process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.json"
        command = [sys.executable, "-m", "benchmarks", *flags, "--json", str(path), "--only", part, side]
        subprocess.run(command, check=True)
        return dict(json.loads(path.read_text()))


def main() -> None:
    """Measure all parts, write the results and print the tables."""
    flags = sys.argv[1:]
    options = arguments(flags)
    if options.only:
        run_child(options)
        return
    results: dict[str, Any] = {"options": vars(options) | {"json": str(options.json)}, "machine": machine(options)}
    results["ceilings"] = measure_in_child(flags, "ceilings", "ours")
    for part in options.parts:
        sides = ["baseline", "ours"] if part in BASELINE and options.baseline == "yes" else ["ours"]
        results[part] = {side: measure_in_child(flags, part, side) for side in sides}
    best = Ceilings(**results["ceilings"])
    for name, timing in results.get("steps", {}).get("ours", {}).items():
        timing["lower_bound"] = steps.lower_bound(name, options, best)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results, indent=2) + "\n")
    show(results, best, options)


def machine(options: argparse.Namespace) -> str:
    """Describe the machine."""
    if options.device.startswith("cuda"):
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "CPU")
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def show(results: dict[str, Any], best: Ceilings, options: argparse.Namespace) -> None:
    """Print a table for each part."""
    console = Console(width=130)
    console.print(
        f"{results['machine']}; at best {best.flops['float32'] / 1e9:,.0f} GFLOP/s in float32,"
        f" {best.flops['bfloat16'] / 1e9:,.0f} in bfloat16, {best.bytes / 1e9:,.0f} GB/s"
    )
    for part in options.parts:
        first = ("images/s", "± share") if part == "data" else ("seconds", "± half range")
        table = Table("measured", *first, "peak MB", "baseline / this", "bound, s", "bound / this")
        baseline = results[part].get("baseline", {})
        for name, timing in baseline.items():
            table.add_row(f"{name}, baseline", *figures(timing), "1.0")
        for name, timing in results[part]["ours"].items():
            base = baseline.get(name.split(", ")[0])
            columns = rates(timing) if part == "data" else figures(timing)
            row = [name, *columns, f"{base['seconds'] / timing['seconds']:.1f}" if base else ""]
            if part == "steps":
                bound = timing["lower_bound"]["seconds"]
                row += [f"{bound:.4f}", f"{bound / timing['seconds']:.0%}"]
            if timing.get("busy") is not None:
                row[0] += f" (GPU busy {timing['busy']:.0%})"
            table.add_row(*row)
        table.title = (
            f"{part}: {options.net}, {options.inliers} + {options.outliers} images" if part == "steps" else part
        )
        console.print(table)
    if "data" in options.parts and "steps" in options.parts:
        fastest = max(images_of(name, options) / t["seconds"] for name, t in results["steps"]["ours"].items())
        pipeline = 1 / results["data"]["ours"][data.PIPELINE]["seconds"]
        console.print(f"data pipeline {pipeline:,.0f} images/s, fastest step {fastest:,.0f}: {pipeline / fastest:.1f}x")
    for name, timing in results.get("steps", {}).get("ours", {}).items():
        if name.startswith("ALOE") and options.net == "densenet":
            hours = timing["seconds"] * 100 * 50_000 / options.inliers / 3600
            console.print(f"{name}: 100 epochs of CIFAR-10 would take {hours:,.1f} hours")


def figures(timing: dict[str, Any]) -> tuple[str, str, str]:
    """Format seconds, spread and peak memory."""
    return f"{timing['seconds']:.4f}", f"{timing['spread']:.4f}", f"{timing['peak_mb']:,.0f}"


def rates(timing: dict[str, Any]) -> tuple[str, str, str]:
    """Format images a second, spread and peak memory."""
    return f"{1 / timing['seconds']:,.0f}", f"{timing['spread'] / timing['seconds']:.0%}", f"{timing['peak_mb']:,.0f}"


def images_of(name: str, options: argparse.Namespace) -> int:
    """Return the number of images that a step reads."""
    return int(options.inliers + options.outliers * steps.objective_and_dtype(name)[0].uses_outliers)


if __name__ == "__main__":
    main()
