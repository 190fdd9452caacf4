"""`--dry`: list the cells of a command, their state and an estimate of the remaining time; nothing is computed."""

import argparse
import math
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from hydra import initialize_config_module
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from rich import box
from rich.console import Console
from rich.table import Column, Table

from aloe_lightning.cli.composition import Composer, quick_hydra
from aloe_lightning.config.validation import validated
from aloe_lightning.errors import UserError
from aloe_lightning.runtime.progress import duration
from aloe_lightning.signatures.description import describe
from aloe_lightning.storage.cells import FAILED, facts_of, is_done
from aloe_lightning.storage.models import TrainedModel

LAUNCHER_KEYS = ("launcher=", "launcher.", "hydra/launcher", "hydra.launcher")


@dataclass(frozen=True)
class PlannedCell:
    """One cell of a command, with its validated config and overrides; `new_net`: no earlier cell has the same net."""

    config: dict[str, Any]
    folder: Path
    model: TrainedModel
    new_net: bool
    overrides: tuple[str, ...]

    @property
    def command(self) -> str:
        """A shell command that computes this cell alone, in the folder of the whole command."""
        words = [word for word in self.overrides if not word.lstrip("+~").startswith(LAUNCHER_KEYS)]
        return shlex.join(["python", "-m", "aloe_lightning", *words])

    @cached_property
    def state(self) -> str:
        """State in words; `done` if the cell will not be computed."""
        if self.config["recompute"] == "nothing" and is_done(self.config, self.folder):
            return "done"
        if self.config["recompute"] != "training":
            if (self.folder / FAILED).is_file():
                return "failed"
            if self.model.is_trained or self.config["checkpoint"] is not None:
                return "net trained"
            if progress := self.model.progress:
                return f"interrupted at step {progress['step']} of {progress['steps']}"
        return "to do" if self.new_net else "to do, net of a cell above"

    @property
    def work(self) -> float:
        """Training effort: passes of an image through the net and back, times steps, or epochs where those are given.

        A pass with weight gradients counts 1, one with input gradients alone 2/3. Comparable within one data set.
        """
        config = self.config
        constants = describe(config["objective"]["_target_"]).constants
        inliers = config["batch"]["inliers"]
        outliers = config["batch"]["outliers"] if constants.get("uses_outliers", True) else 0
        attack, trainer = config["attack"]["train"], config["trainer"]
        steps = attack.get("steps") or math.floor(attack["epsilon"]) + 1
        perturbed = inliers * constants.get("perturbs_inliers", True)
        perturbed += outliers * constants.get("perturbs_outliers", True)
        images = inliers + outliers + 2 / 3 * steps * perturbed
        return float(images * (trainer["max_steps"] if trainer["max_steps"] > 0 else trainer["max_epochs"]))


@quick_hydra()
def planned(arguments: Sequence[str]) -> list[PlannedCell]:
    """Return the cells of a command line, as Hydra's own sweeper would run them.

    Raises:
        UserError: if a config is invalid.
    """
    parser = OverridesParser.create()
    with initialize_config_module("aloe_lightning.conf", version_base="1.3"):
        overrides = _overrides(arguments)
        single = [word for word in overrides if not parser.parse_override(word).is_sweep_override()]
        composer = Composer("config", overrides)
        params = [f"{key}={value}" for key, value in composer.sweep_params(single).items()]
        (jobs,) = BasicSweeper.split_arguments(parser.parse_overrides([*params, *overrides]), None)
        composed = [(composer.compose(job), job) for job in jobs]
    cells: list[PlannedCell] = []
    nets: set[Path] = set()
    for cfg, job in composed:
        if cfg.enabled is not False:
            config = validated(cfg)
            folder = Path(config["paths"]["outputs"]) / config["study"] / config["cell"]
            model = TrainedModel.of(config)
            cells.append(PlannedCell(config, folder, model, model.folder not in nets, tuple(job)))
            nets.add(model.folder)
    return cells


def _overrides(arguments: Sequence[str]) -> list[str]:
    """Return the overrides, with the folders of `--config-dir` as one of them; raise UserError for any other flag."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-cd", "--config-dir", type=Path, action="append", default=[])
    known, overrides = parser.parse_known_args(arguments)
    if flags := [word for word in overrides if word.startswith("-")]:
        raise UserError(f"--dry cannot be combined with {flags[0]}")
    folders = ",".join(f"file://{folder.absolute()}" for folder in known.config_dir)
    return [*overrides, f"hydra.searchpath=[{folders}]"] if folders else overrides


def show_plan(arguments: Sequence[str]) -> None:
    """Print the cells of a command, their state, and an estimate of the remaining time if times were measured."""
    cells = planned(arguments)
    columns = [Column(name, no_wrap=True) for name in ("cell", "state")]
    columns += [Column(name, justify="right") for name in ("took", "remaining, about")]
    table = Table(*columns, box=box.SIMPLE_HEAD)
    remaining = list[float | None]()
    for cell in cells:
        took, left = "", ""
        if cell.state == "done":
            run_info = facts_of(cell.folder)
            took = duration((run_info["train_seconds"] or 0) * cell.new_net + run_info["evaluate_seconds"])
        else:
            seconds = estimate(cell, cells)
            remaining.append(seconds)
            left = "?" if seconds is None else duration(seconds)
        table.add_row(f"{cell.folder.parent.name}/{cell.folder.name}", cell.state, took, left)
    known = [seconds for seconds in remaining if seconds is not None]
    total = f"; about {duration(sum(known))} remaining on one device" if known else ""
    if len(known) < len(remaining):
        total += "; no estimate" + (f" for {len(remaining) - len(known)}" if known else "") + " until a cell is done"
    done, nets = len(cells) - len(remaining), sum(cell.new_net for cell in cells)
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    console.print(f"{done} of {len(cells)} cells done, {nets} net{'s' * (nets != 1)}{total}", highlight=False)


def show_commands(arguments: Sequence[str]) -> None:
    """Print one shell command for each cell that is not done, for any engine that runs commands."""
    for cell in planned(arguments):
        if cell.state != "done":
            print(cell.command)


def estimate(cell: PlannedCell, cells: Sequence[PlannedCell]) -> float | None:
    """Return the seconds that an unfinished cell will take, from those that finished ones took; None if none did."""

    def scored(cell: PlannedCell) -> object:
        return cell.config["data"]["name"], sorted(cell.config["detector"])

    done = [other for other in cells if other.state == "done"]
    times = [(scored(other), facts_of(other.folder)["evaluate_seconds"]) for other in done]
    evaluation = _mean_of_similar(times, scored(cell))
    if not cell.new_net or cell.model.is_trained or cell.config["checkpoint"] is not None:
        return evaluation
    trained = [other for other in cells if other.new_net and other.model.is_trained]
    times = [(other.config["data"]["name"], other.model.metadata["seconds"] / other.work) for other in trained]
    per_work = _mean_of_similar(times, cell.config["data"]["name"])
    if per_work is None or evaluation is None:
        return None
    progress = cell.model.progress
    share = 1 - progress["step"] / progress["steps"] if progress else 1
    return evaluation + per_work * cell.work * share


def _mean_of_similar(times: Sequence[tuple[object, float]], kind: object) -> float | None:
    """Return the mean of the same kind, else of all kinds."""
    seconds = [value for other, value in times if other == kind] or [value for _, value in times]
    return fmean(seconds) if seconds else None
