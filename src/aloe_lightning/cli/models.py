"""`aloe-lightning models`: list the trained nets in the folder of results, and remove those that no cell uses."""

import os
import shutil
import sys
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from rich import box
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from aloe_lightning.errors import UserError
from aloe_lightning.runtime.progress import duration
from aloe_lightning.storage.cells import facts_of
from aloe_lightning.storage.models import FOLDER, TrainedModel

WIDTH = 160


@dataclass(frozen=True)
class StoredNet:
    """A net in the folder of results.

    Attributes:
        model: its folder.
        used_by: cells that were computed from it, `study/cell`.
    """

    model: TrainedModel
    used_by: tuple[str, ...]

    @property
    def files(self) -> list[Path]:
        """All files of the net."""
        return [path for path in self.model.folder.rglob("*") if path.is_file()]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.files)

    @property
    def age(self) -> float:
        """Seconds since a file of the net was last written."""
        return time.time() - max((path.stat().st_mtime for path in self.files), default=time.time())

    @property
    def setting(self) -> tuple[str, str, str, str]:
        """Data, objective, training epsilon and seed."""
        config: dict[str, Any] = self.model.metadata.get("config", {})
        if not config:
            return "?", "?", "?", "?"
        epsilon = f"{config['attack']['train']['epsilon']:g}"
        return config["data"]["name"], config["objective"]["name"], epsilon, str(config["seed"])


def main(arguments: Sequence[str]) -> int:
    """Run the command; return 0, or 2 for a mistake."""
    parser = ArgumentParser(prog="aloe-lightning models", description=__doc__)
    parser.add_argument("action", choices=["list", "prune"], help="prune: remove the nets that no cell uses")
    text = "folder of the results (paths.outputs); default: $ALOE_OUTPUTS, or outputs"
    parser.add_argument("--outputs", type=Path, default=Path(os.environ.get("ALOE_OUTPUTS") or "outputs"), help=text)
    parser.add_argument("--yes", action="store_true", help="remove without a question")
    parser.add_argument("--dry", action="store_true", help="show what would be removed")
    options = parser.parse_args(arguments)
    outputs = options.outputs.expanduser()
    if not outputs.is_dir():
        raise UserError(f"no folder of results at {outputs.absolute()}: give --outputs")
    nets = stored_nets(outputs)
    if options.action == "list":
        show(nets)
        return 0
    return prune(nets, ask=not options.yes, dry=options.dry)


def stored_nets(outputs: Path) -> list[StoredNet]:
    """Return all nets in a folder of results, trained or not, in the order of their names."""
    models = outputs / FOLDER
    users: dict[str, list[str]] = {}
    for file in sorted(outputs.rglob("versions.json")):
        if models not in file.parents and (used := facts_of(file.parent).get("model")):
            # By the name alone, which ends in a fingerprint: the folder of results may have been moved.
            users.setdefault(Path(used).name, []).append(file.parent.relative_to(outputs).as_posix())
    folders = sorted(path for path in models.glob("*") if path.is_dir() and not path.name.startswith("."))
    return [StoredNet(TrainedModel(folder), tuple(users.get(folder.name, ()))) for folder in folders]


def show(nets: Sequence[StoredNet]) -> None:
    """Print a table of nets."""
    table = Table("net", "data", "objective", "epsilon", "seed", "size", "age", "used by", box=box.SIMPLE_HEAD)
    for net in nets:
        cells = ", ".join(net.used_by) or "no cell"
        state = cells if net.model.is_trained else "not trained to the end"
        table.add_row(net.model.folder.name, *net.setting, decimal(net.size), duration(net.age), state)
    console = Console(width=None if sys.stdout.isatty() else WIDTH, emoji=False, markup=False, highlight=False)
    console.print(table)
    unused = [net for net in nets if net.model.is_trained and not net.used_by]
    total = f"{len(nets)} nets, {decimal(sum(net.size for net in nets))}"
    console.print(f"{total}; {len(unused)} used by no cell, {decimal(sum(net.size for net in unused))}")


def prune(nets: Sequence[StoredNet], *, ask: bool, dry: bool) -> int:
    """Remove the trained nets that no cell uses, after a question; unfinished trainings are kept.

    Args:
        nets: all nets.
        ask: ask before removing.
        dry: remove nothing.
    """
    unused = [net for net in nets if net.model.is_trained and not net.used_by]
    if not unused:
        print("every trained net is used by a cell: nothing to remove")
        return 0
    show(unused)
    if dry:
        return 0
    if ask:
        try:
            answer = input(f"Remove these {len(unused)} nets? [y/N] ")
        except EOFError:
            raise UserError("no terminal to ask on: --yes removes without a question") from None
        if answer.strip().lower() not in ("y", "yes"):
            print("nothing was removed")
            return 0
    for net in unused:
        try:
            with FileLock(net.model.lock, timeout=0):
                shutil.rmtree(net.model.folder)
            print(f"removed {net.model.folder.name}")
        except Timeout:
            print(f"kept {net.model.folder.name}: a job uses it")
    return 0
