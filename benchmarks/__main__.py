"""`python -m benchmarks`: every speed figure as a ratio to the authors' code restated, in one run on one machine.

Each part runs in a process of its own, so that none sees another's memory or settings. A table, and JSON beside it.
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

from aloe_lightning.runtime.hardware import prepare
from benchmarks import data, evaluations, start, steps
from benchmarks.measure import Ceilings, ceilings

RESTATED = {"steps": steps.restated, "evaluation": evaluations.restated}
OURS = {
    "steps": steps.ours,
    "evaluation": evaluations.ours,
    "data": data.ours,
    "lightning": start.lightning,
    "start": start.ours,
}


def arguments(given: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--parts", nargs="+", choices=list(OURS), default=list(OURS), help="what to measure (all)")
    add("--net", choices=list(steps.NETS), default="densenet")
    add("--device", default="cpu")
    add("--objectives", nargs="+", default=[cls.__name__ for cls in steps.OBJECTIVES])
    add("--inliers", type=int, default=64)
    add("--outliers", type=int, default=128)
    add("--images", type=int, default=100, help="of each of the seven sets of the evaluation")
    add("--repeats", type=int, default=3)
    add("--compile", default="auto", help="torch.compile: auto, off, default, reduce-overhead, max-autotune")
    add("--fused", choices=["auto", "yes", "no"], default="auto", help="each dense block as one operation")
    add("--contiguous", action="store_true", help="no channels-last: what the layout is worth")
    add("--keep-memory", choices=["yes", "no"], default="yes", help="no: what keeping freed memory is worth")
    add("--baseline", choices=["yes", "no"], default="yes", help="no: leave the restated baseline out")
    add("--json", type=Path, default=Path("outputs/benchmark.json"))
    add("--only", nargs=2, help=argparse.SUPPRESS)  # of a child: part and side
    return parser.parse_args(given)


def child(options: argparse.Namespace) -> None:
    """Measure one part on one side and write it to the JSON file."""
    part, side = options.only
    device = torch.device(options.device)
    if side == "ours" and options.keep_memory == "yes":
        prepare(device, tf32=False)
    if part == "ceilings":
        found: dict[str, Any] = asdict(ceilings(device))
    else:
        found = {}
        for name, timing in (RESTATED if side == "restated" else OURS)[part](options, device):
            found[name] = asdict(timing)
            print(f"{side} {name}: {timing.seconds:.4f} s ± {timing.spread:.4f}", file=sys.stderr, flush=True)
    options.json.write_text(json.dumps(found))


def measured(given: list[str], part: str, side: str) -> dict[str, Any]:
    """What a child has measured."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.json"
        command = [sys.executable, "-m", "benchmarks", *given, "--json", str(path), "--only", part, side]
        subprocess.run(command, check=True)
        return dict(json.loads(path.read_text()))


def main() -> None:
    """Measure all parts, print, write."""
    given = sys.argv[1:]
    options = arguments(given)
    if options.only:
        child(options)
        return
    found: dict[str, Any] = {"options": vars(options) | {"json": str(options.json)}, "machine": machine(options)}
    found["ceilings"] = measured(given, "ceilings", "ours")
    for part in options.parts:
        sides = ["restated", "ours"] if part in RESTATED and options.baseline == "yes" else ["ours"]
        found[part] = {side: measured(given, part, side) for side in sides}
    best = Ceilings(**found["ceilings"])
    for name, timing in found.get("steps", {}).get("ours", {}).items():
        timing["floor"] = steps.at_the_floor(name, options, best)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(found, indent=2) + "\n")
    show(found, best, options)


def machine(options: argparse.Namespace) -> str:
    """In words."""
    if options.device.startswith("cuda"):
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "CPU")
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def show(found: dict[str, Any], best: Ceilings, options: argparse.Namespace) -> None:
    """The tables."""
    console = Console(width=130)
    console.print(
        f"{found['machine']}; at best {best.flops['float32'] / 1e9:,.0f} GFLOP/s in float32,"
        f" {best.flops['bfloat16'] / 1e9:,.0f} in bfloat16, {best.bytes / 1e9:,.0f} GB/s"
    )
    for part in options.parts:
        first = ("images/s", "± share") if part == "data" else ("seconds", "± half range")
        table = Table("what", *first, "peak MB", "restated / this", "floor, s", "floor / this")
        restated = found[part].get("restated", {})
        for name, timing in restated.items():
            table.add_row(f"{name}, restated", *figures(timing), "1.0")
        for name, timing in found[part]["ours"].items():
            base = restated.get(name.split(", ")[0])
            shown = rates(timing) if part == "data" else figures(timing)
            row = [name, *shown, f"{base['seconds'] / timing['seconds']:.1f}" if base else ""]
            if part == "steps":
                floor = timing["floor"]["seconds"]
                row += [f"{floor:.4f}", f"{floor / timing['seconds']:.0%}"]
            if timing.get("busy") is not None:
                row[0] += f" (GPU busy {timing['busy']:.0%})"
            table.add_row(*row)
        table.title = (
            f"{part}: {options.net}, {options.inliers} + {options.outliers} images" if part == "steps" else part
        )
        console.print(table)
    if "data" in options.parts and "steps" in options.parts:
        fastest = max(images_of(name, options) / t["seconds"] for name, t in found["steps"]["ours"].items())
        pipeline = 1 / found["data"]["ours"][data.PIPELINE]["seconds"]
        console.print(f"data pipeline {pipeline:,.0f} images/s, fastest step {fastest:,.0f}: {pipeline / fastest:.1f}x")
    for name, timing in found.get("steps", {}).get("ours", {}).items():
        if name.startswith("ALOE") and options.net == "densenet":
            hours = timing["seconds"] * 100 * 50_000 / options.inliers / 3600
            console.print(f"{name}: 100 epochs of CIFAR-10 would take {hours:,.1f} hours")


def figures(timing: dict[str, Any]) -> tuple[str, str, str]:
    """Seconds, spread, peak."""
    return f"{timing['seconds']:.4f}", f"{timing['spread']:.4f}", f"{timing['peak_mb']:,.0f}"


def rates(timing: dict[str, Any]) -> tuple[str, str, str]:
    """Images a second, spread, peak."""
    return f"{1 / timing['seconds']:,.0f}", f"{timing['spread'] / timing['seconds']:.0%}", f"{timing['peak_mb']:,.0f}"


def images_of(name: str, options: argparse.Namespace) -> int:
    """Images that a step eats."""
    return int(options.inliers + options.outliers * steps.named(name)[0].uses_outliers)


if __name__ == "__main__":
    main()
