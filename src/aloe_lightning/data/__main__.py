"""`python -m aloe_lightning.data`: list, describe, download, check and show data sets."""

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path

from rich import box
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from aloe_lightning.data.catalogue import card_of, cards
from aloe_lightning.data.catalogue.card import DatasetCard, missing_paths
from aloe_lightning.data.download.fetch import prepare
from aloe_lightning.errors import UserError

WIDTH = 150
COLOURS = {"official": "green", "complete": "green", "usable": "yellow"}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0 on success, 1 if a checked set is missing or broken, 2 for a mistake in the command or its data.
    """
    options = parser().parse_args(arguments)
    root = Path(options.root).expanduser().absolute()
    try:
        return int(options.run(options, root))
    except UserError as error:
        print(f"aloe_lightning.data: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("aloe_lightning.data: interrupted", file=sys.stderr)
        return 130


def parser() -> ArgumentParser:
    """Return the parser of the command line."""
    commands = ArgumentParser(prog="python -m aloe_lightning.data", description=__doc__)
    subparsers = commands.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[Namespace, Path], int], text: str, names: str = "") -> ArgumentParser:
        command = subparsers.add_parser(name, help=text)
        command.set_defaults(run=run)
        root_help = "the folder that holds all data sets (default: $ALOE_DATA, else data/)"
        command.add_argument("--root", default=os.environ.get("ALOE_DATA", "data"), help=root_help)
        if names:
            command.add_argument("names", nargs="+", metavar="NAME", help=names)
        return command

    add("list", run_list, "list all named sets: role, images, size on disk, state")
    add("show", run_show, "describe sets: classes, split, source, terms, citation", "a name of `list`")
    text = "download, verify and extract sets; existing files are not changed"
    add("prepare", run_prepare, text, "a name of `list`, or `all` downloadable ones")
    text = "read sets completely and compare them with the published sums and counts"
    check = add("check", run_check, text, "a name of `list`, or a path to custom images")
    check.add_argument("--strict", action="store_true", help="fail also if a copy differs from the published set")
    sample = add("sample", run_sample, "write a contact sheet of a set as PNG")
    sample.add_argument("name", metavar="NAME", help="a name of `list`, `demo`, or a path to custom images")
    sample.add_argument("--split", help="train, validation or test; default: the first one of the set")
    text = "a row for each class: an image, and versions of it by the augmentation of signs"
    sample.add_argument("--augmented", action="store_true", help=text)
    sample.add_argument("--output", type=Path, metavar="PNG", help="default: <name>.png here")
    sample.add_argument("--seed", type=int, default=0, help="seed of the choice of images")
    return commands


def run_list(options: Namespace, root: Path) -> int:
    """Print a table of all sets."""
    title = f"Data sets; root: {escape(str(root))}"
    table = Table("name", "role", "images", box=box.SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column("on disk", justify="right")
    table.add_column("state", ratio=1)
    for card in cards().values():
        images = " + ".join(f"{count:,} {split}" for split, count in card.images.items())
        existing = [root / path for paths in card.layouts for path in paths if (root / path).exists()]
        size = decimal(sum(map(size_of, existing))) if existing else "–"
        table.add_row(card.name, ", ".join(card.roles), images, size, state_of(card, root))
    console().print(table)
    return 0


def state_of(card: DatasetCard, root: Path) -> str:
    """Describe in a few words whether a set exists under the root."""
    if card.layout(root):
        return "[green]there[/]"
    missing = missing_paths(card.layouts[0], root)
    if len(missing) < len(card.layouts[0]):
        return f"[yellow]incomplete[/]: {', '.join(missing)} missing"
    return "not there: `prepare` downloads it" if card.archives else "not there: to be obtained manually, see `show`"


def run_show(options: Namespace, root: Path) -> int:
    """Print the pages of sets."""
    for card in [card_of(name) for name in options.names]:
        manual = f"To obtain it manually: {card.manual_instructions}\n" if card.manual_instructions else ""
        print(f"{card.name}: {card.description()}\n{manual}")
    return 0


def run_prepare(options: Namespace, root: Path) -> int:
    """Download sets; an error of one does not stop the others."""
    chosen = [card_of(name) for name in options.names if name != "all"]
    if "all" in options.names:
        chosen = [card for card in cards().values() if card.archives]
    failures = 0
    for card in chosen:
        try:
            for line in prepare(card, root):
                print(line, flush=True)
        except UserError as error:
            failures += 1
            print(f"aloe_lightning.data: error: {error}", file=sys.stderr, flush=True)
    if len(chosen) > 1:
        print(f"{len(chosen) - failures} of {len(chosen)} sets are there")
    return 2 if failures else 0


def run_check(options: Namespace, root: Path) -> int:
    """Print a verdict on each set."""
    subjects = [custom_path(name) or card_of(name).name for name in options.names]
    from aloe_lightning.data.download.check import check

    verdicts = [check(subject, root) for subject in subjects]
    table = Table("name", "state", "images", box=box.SIMPLE_HEAD)
    table.add_column("note", ratio=1, overflow="fold")
    for verdict in verdicts:
        colour = COLOURS.get(verdict.state, "red")
        images = " + ".join(f"{count:,} {split}" for split, count in verdict.counts.items())
        table.add_row(escape(verdict.name), f"[{colour}]{verdict.state}[/]", images or "–", escape(verdict.note))
    console().print(table)
    # No published sums exist for custom images.
    good = [v.state in COLOURS and not (options.strict and v.state == "usable" and v.name in cards()) for v in verdicts]
    return 0 if all(good) else 1


def run_sample(options: Namespace, root: Path) -> int:
    """Write a contact sheet."""
    subject = custom_path(options.name) or ("demo" if options.name == "demo" else card_of(options.name).name)
    name = subject.resolve().stem if isinstance(subject, Path) else subject
    from aloe_lightning.data.contact_sheet import augmented_rows, contact_sheet, sample_rows
    from aloe_lightning.data.sets.readers import splits_of

    splits = splits_of(subject, root, verify=False)
    split = options.split or next(iter(splits))
    if split not in splits:
        raise UserError(f"{name} has no split {split!r}: {', '.join(splits)}")
    rows = (augmented_rows if options.augmented else sample_rows)(splits[split](), options.seed)
    sheet = contact_sheet(rows, blocks=2 if options.augmented else 1)
    output = options.output or Path(f"{name}.png")
    output = output / f"{name}.png" if output.is_dir() else output
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(output, format="PNG", optimize=True)
    except OSError as error:
        raise UserError(f"cannot write {output} ({error}): choose another --output") from error
    print(f"wrote {output} ({sheet.width} x {sheet.height})")
    return 0


def custom_path(name: str) -> Path | None:
    """Return the path to custom images that an argument means; None if it is the name of a set."""
    path = Path(name).expanduser()
    known = name in cards() or name == "demo"
    return path if not known and ("/" in name or path.suffix in (".npy", ".npz") or path.exists()) else None


def size_of(path: Path) -> int:
    """Return the size of a file, or of all files below a folder, in bytes."""
    return path.stat().st_size if path.is_file() else sum(f.stat().st_size for f in path.rglob("*") if f.is_file())


def console() -> Console:
    """Return a console that is wide enough for a table even without a terminal."""
    return Console(width=None if sys.stdout.isatty() else WIDTH, emoji=False)


if __name__ == "__main__":
    sys.exit(main())
