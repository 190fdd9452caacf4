"""What a command would compute, without computing it: its cells, which are done, and how long the rest may take."""

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
from aloe_lightning.storage.fingerprints import learns_from
from aloe_lightning.storage.store import FAILED, Model, facts_of, is_done

State = Literal["done", "trained", "interrupted", "failed", "to do"]


@dataclass(frozen=True)
class Planned:
    """One cell of a command.

    Attributes:
        config: validated.
        folder: of its results.
        model: its net.
    """

    config: dict[str, Any]
    folder: Path
    model: Model

    @property
    def state(self) -> State:
        """How far the cell is."""
        redo = self.config["recompute"]
        if redo == "nothing" and is_done(self.config, self.folder):
            return "done"
        if redo == "training":
            return "to do"
        if (self.folder / FAILED).is_file():
            return "failed"
        if self.model.trained or self.config["checkpoint"] is not None:
            return "trained"
        return "interrupted" if self.model.progress else "to do"

    @property
    def work(self) -> float:
        """Of training: passes of an image through the net and back, times steps, or epochs where these are what is set.

        A pass with weight gradients counts 1, one for input gradients alone 2/3. Comparable within one data set.
        """
        config = self.config
        outliers, perturbs = learns_from(config["objective"])
        inliers, beside = config["batch"]["inliers"], config["batch"]["outliers"] if outliers else 0
        attack = config["attack"]["train"]
        steps = attack.get("steps") or math.floor(attack["epsilon"]) + 1 if perturbs else 0
        perturbed = inliers if config["objective"]["name"] != "aloe" else inliers + beside
        images = inliers + beside + 2 / 3 * steps * perturbed
        trainer = config["trainer"]
        return float(images * (trainer["max_steps"] if trainer["max_steps"] > 0 else trainer["max_epochs"]))


def planned(arguments: Sequence[str]) -> list[Planned]:
    """The cells of a command line whose flags are gone, as Hydra's own sweeper would run them.

    Raises:
        UserError: for a config that is not valid.
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
    """What `--config-dir` names, and the overrides; other flags, but for those of a sweep, have no meaning here."""
    folders, overrides, words = list[str](), list[str](), iter(arguments)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag in ("--config-dir", "-cd"):
            folders.append(value if equals else next(words, ""))
        elif word.startswith("-") and word not in ("-m", "--multirun"):
            raise UserError(f"--dry does not go with {word}")
        elif not word.startswith("-"):
            overrides.append(word)
    return folders, overrides


def _sweeps(word: str) -> bool:
    return bool(OverridesParser.create().parse_override(word).is_sweep_override())


def _cell(job: Sequence[str]) -> Iterator[Planned]:
    config = validated(compose("config", list(job)))
    if config["enabled"]:
        folder = Path(config["paths"]["outputs"]) / config["study"] / config["cell"]
        yield Planned(config, folder, Model.of(config))


def show_plan(arguments: Sequence[str]) -> None:
    """Print the cells of a command, how far they are, and an estimate of the time left where something was measured."""
    cells = planned(arguments)
    measured = Measured(cells)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("cell", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("took", justify="right")
    table.add_column("left, about", justify="right")
    nets: set[Path] = set()
    done, left = 0, list[float | None]()
    for cell in cells:
        new = cell.model.folder not in nets
        nets.add(cell.model.folder)
        row = f"{cell.folder.parent.name}/{cell.folder.name}", told(cell, new)
        if cell.state == "done":
            done += 1
            facts = facts_of(cell.folder)
            table.add_row(*row, duration((facts["train_seconds"] or 0) * new + facts["evaluate_seconds"]), "")
        else:
            left.append(measured.left(cell, trains=new))
            table.add_row(*row, "", "?" if left[-1] is None else duration(left[-1]))
    known = [seconds for seconds in left if seconds is not None]
    total = f"; about {duration(sum(known))} left on one device" if known else ""
    if len(known) < len(left):
        total += "; no estimate" + (f" for {len(left) - len(known)}" if known else "") + " until a cell is done"
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    console.print(f"{done} of {len(cells)} cells done, {len(nets)} nets{total}", highlight=False)


def told(cell: Planned, new: bool) -> str:
    """A cell's state in words; not `new` is a cell whose net an earlier one brings."""
    if cell.state == "interrupted":
        return f"interrupted at step {cell.model.progress['step']} of {cell.model.progress['steps']}"
    if cell.state == "trained":
        return "net trained"
    return cell.state if new or cell.state != "to do" else "to do, net of a cell above"


class Measured:
    """Seconds that finished cells took, for an estimate of those that are left."""

    def __init__(self, cells: Sequence[Planned]) -> None:
        self.trainings: dict[str, list[float]] = {}
        self.evaluations: dict[str, list[float]] = {}
        seen = set()
        for cell in cells:
            name = cell.config["data"]["name"]
            if cell.model.trained and cell.model.folder not in seen:
                seen.add(cell.model.folder)
                self.trainings.setdefault(name, []).append(cell.model.card["seconds"] / cell.work)
            if cell.state == "done":
                key = f"{name} {' '.join(sorted(cell.config['detector']))}"
                self.evaluations.setdefault(key, []).append(facts_of(cell.folder)["evaluate_seconds"])

    def left(self, cell: Planned, trains: bool) -> float | None:
        """Seconds that a cell which is not done will take; None if nothing like it was measured."""
        name = cell.config["data"]["name"]
        key = f"{name} {' '.join(sorted(cell.config['detector']))}"
        evaluation = self._mean(self.evaluations, key)
        if not trains or cell.model.trained or cell.config["checkpoint"] is not None:
            return evaluation
        per_work = self._mean(self.trainings, name)
        if per_work is None or evaluation is None:
            return None
        progress = cell.model.progress
        share = 1 - progress["step"] / progress["steps"] if progress else 1
        return evaluation + per_work * cell.work * share

    @staticmethod
    def _mean(found: dict[str, list[float]], key: str) -> float | None:
        """Of the same kind, else of all kinds."""
        values = found.get(key) or [value for values in found.values() for value in values]
        return fmean(values) if values else None
