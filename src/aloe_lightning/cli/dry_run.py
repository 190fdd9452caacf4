"""`--dry`: list the cells of a command, their state and an estimate of the remaining time; nothing is computed."""

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from hydra import compose, initialize_config_module
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from rich import box
from rich.console import Console
from rich.table import Table

from aloe_lightning.config.validation import validated
from aloe_lightning.errors import UserError
from aloe_lightning.runtime.progress import duration
from aloe_lightning.signatures.description import describe
from aloe_lightning.storage.cells import FAILED, facts_of, is_done
from aloe_lightning.storage.models import TrainedModel

State = Literal["done", "trained", "interrupted", "failed", "to do"]


@dataclass(frozen=True)
class PlannedCell:
    """One cell of a command.

    Attributes:
        config: validated config.
        folder: folder of its results.
        model: trained net of the cell.
    """

    config: dict[str, Any]
    folder: Path
    model: TrainedModel

    @property
    def state(self) -> State:
        """State of the cell."""
        recompute = self.config["recompute"]
        if recompute == "nothing" and is_done(self.config, self.folder):
            return "done"
        if recompute == "training":
            return "to do"
        if (self.folder / FAILED).is_file():
            return "failed"
        if self.model.is_trained or self.config["checkpoint"] is not None:
            return "trained"
        return "interrupted" if self.model.progress else "to do"

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


def planned(arguments: Sequence[str]) -> list[PlannedCell]:
    """Return the cells of a command line, as Hydra's own sweeper would run them.

    Raises:
        UserError: if a config is invalid.
    """
    with initialize_config_module("aloe_lightning.conf", version_base="1.3"):
        folders, plain = _config_folders(arguments)
        if folders:
            plain.append(f"hydra.searchpath=[{','.join(f'file://{Path(place).absolute()}' for place in folders)}]")
        swept = compose("config", [word for word in plain if not _sweeps(word)], return_hydra_config=True)
        params = [f"{key}={value}" for key, value in (swept.hydra.sweeper.params or {}).items()]
        overrides = OverridesParser.create().parse_overrides([*params, *plain])
        (jobs,) = BasicSweeper.split_arguments(overrides, None)
        return [cell for job in jobs for cell in _cell(job)]


def _config_folders(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the folders of `--config-dir`, and the overrides; raise UserError for any other flag."""
    folders, overrides, words = list[str](), list[str](), iter(arguments)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag in ("--config-dir", "-cd"):
            folders.append(value if equals else next(words, ""))
        elif word.startswith("-") and word not in ("-m", "--multirun"):
            raise UserError(f"--dry cannot be combined with {word}")
        elif not word.startswith("-"):
            overrides.append(word)
    return folders, overrides


def _sweeps(word: str) -> bool:
    return bool(OverridesParser.create().parse_override(word).is_sweep_override())


def _cell(job: Sequence[str]) -> Iterator[PlannedCell]:
    config = validated(compose("config", list(job)))
    if config["enabled"]:
        folder = Path(config["paths"]["outputs"]) / config["study"] / config["cell"]
        yield PlannedCell(config, folder, TrainedModel.of(config))


def show_plan(arguments: Sequence[str]) -> None:
    """Print the cells of a command, their state, and an estimate of the remaining time if times were measured."""
    cells = planned(arguments)
    measured = MeasuredTimes(cells)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("cell", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("took", justify="right")
    table.add_column("remaining, about", justify="right")
    nets: set[Path] = set()
    done, remaining = 0, list[float | None]()
    for cell in cells:
        new = cell.model.folder not in nets
        nets.add(cell.model.folder)
        row = f"{cell.folder.parent.name}/{cell.folder.name}", state_in_words(cell, new)
        if cell.state == "done":
            done += 1
            run_info = facts_of(cell.folder)
            table.add_row(*row, duration((run_info["train_seconds"] or 0) * new + run_info["evaluate_seconds"]), "")
        else:
            remaining.append(measured.estimate(cell, trains=new))
            table.add_row(*row, "", "?" if remaining[-1] is None else duration(remaining[-1]))
    known = [seconds for seconds in remaining if seconds is not None]
    total = f"; about {duration(sum(known))} remaining on one device" if known else ""
    if len(known) < len(remaining):
        total += "; no estimate" + (f" for {len(remaining) - len(known)}" if known else "") + " until a cell is done"
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    console.print(f"{done} of {len(cells)} cells done, {len(nets)} nets{total}", highlight=False)


def state_in_words(cell: PlannedCell, new: bool) -> str:
    """Return a cell's state in words; `new` is False if an earlier cell has the same net."""
    if cell.state == "interrupted":
        return f"interrupted at step {cell.model.progress['step']} of {cell.model.progress['steps']}"
    if cell.state == "trained":
        return "net trained"
    return cell.state if new or cell.state != "to do" else "to do, net of a cell above"


class MeasuredTimes:
    """Seconds that finished cells took, for an estimate of the remaining ones."""

    def __init__(self, cells: Sequence[PlannedCell]) -> None:
        self.trainings: dict[str, list[float]] = {}
        self.evaluations: dict[str, list[float]] = {}
        seen = set()
        for cell in cells:
            name = cell.config["data"]["name"]
            if cell.model.is_trained and cell.model.folder not in seen:
                seen.add(cell.model.folder)
                self.trainings.setdefault(name, []).append(cell.model.metadata["seconds"] / cell.work)
            if cell.state == "done":
                key = f"{name} {' '.join(sorted(cell.config['detector']))}"
                self.evaluations.setdefault(key, []).append(facts_of(cell.folder)["evaluate_seconds"])

    def estimate(self, cell: PlannedCell, trains: bool) -> float | None:
        """Return the seconds that an unfinished cell will take; None if no similar cell was measured."""
        name = cell.config["data"]["name"]
        key = f"{name} {' '.join(sorted(cell.config['detector']))}"
        evaluation = self._mean(self.evaluations, key)
        if not trains or cell.model.is_trained or cell.config["checkpoint"] is not None:
            return evaluation
        per_work = self._mean(self.trainings, name)
        if per_work is None or evaluation is None:
            return None
        progress = cell.model.progress
        share = 1 - progress["step"] / progress["steps"] if progress else 1
        return evaluation + per_work * cell.work * share

    @staticmethod
    def _mean(times: dict[str, list[float]], key: str) -> float | None:
        """Return the mean of the same kind, else of all kinds."""
        values = times.get(key) or [value for values in times.values() for value in values]
        return fmean(values) if values else None
