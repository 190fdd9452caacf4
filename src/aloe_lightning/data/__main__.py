"""`python -m aloe_lightning.data`: what sets there are, and to fetch, check and look at them."""

import argparse
import os
import sys
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aloe_lightning.data.catalogue.card import Card, stands
from aloe_lightning.data.catalogue.sets import CARDS, card_of
from aloe_lightning.data.download.fetch import prepare
from aloe_lightning.errors import UserError

WIDTH = 150
COLOURS = {"official": "green", "complete": "green", "usable": "yellow"}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0 if all is well, 1 if a set that was checked is missing or broken, 2 for a mistake of the user's.
    """
    words = parser().parse_args(arguments)
    root = Path(words.root).expanduser().absolute()
    try:
        return int(words.run(words, root))
    except UserError as error:
        print(f"aloe_lightning.data: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("aloe_lightning.data: interrupted", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """The commands and what they take."""
    root = argparse.ArgumentParser(add_help=False)
    root.add_argument(
        "--root",
        default=os.environ.get("ALOE_DATA", "data"),
        help="the folder that holds all data sets (default: $ALOE_DATA, else data/)",
    )
    commands = argparse.ArgumentParser(prog="python -m aloe_lightning.data", description=__doc__)
    add = commands.add_subparsers(required=True, metavar="COMMAND").add_parser
    one = add("list", parents=[root], help="all named sets: role, images, size on disk, state")
    one.set_defaults(run=run_list)
    one = add("show", parents=[root], help="what there is to know about sets: classes, split, source, terms, citation")
    one.add_argument("names", nargs="+", metavar="NAME")
    one.set_defaults(run=run_show)
    one = add("prepare", parents=[root], help="fetch, verify and unpack sets; what is there is left alone")
    one.add_argument("names", nargs="+", metavar="NAME", help="a name of `list`, or `all` that can be fetched")
    one.set_defaults(run=run_prepare)
    one = add("check", parents=[root], help="read sets whole and hold them to the published sums and counts")
    one.add_argument("names", nargs="+", metavar="NAME", help="a name of `list`, or a path to images of your own")
    one.add_argument("--strict", action="store_true", help="fail also where a copy is not what was published")
    one.set_defaults(run=run_check)
    one = add("sample", parents=[root], help="write a contact sheet of a set as PNG")
    one.add_argument("name", metavar="NAME", help="a name of `list`, `demo`, or a path to images of your own")
    one.add_argument("--split", default=None, help="train, validation, test; the first there is by default")
    one.add_argument(
        "--augmented",
        action="store_true",
        help="a row for each class: an image, and what the augmentation of signs makes of it",
    )
    one.add_argument("--output", type=Path, default=None, metavar="PNG", help="default: <name>.png here")
    one.add_argument("--seed", type=int, default=0, help="of the choice of images")
    one.set_defaults(run=run_sample)
    return commands


def run_list(words: argparse.Namespace, root: Path) -> int:
    """Print a table of all sets."""
    title = f"Data sets; root: {escape(str(root))}"
    table = Table("name", "role", "images", box=box.SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column("on disk", justify="right")
    table.add_column("state", ratio=1)
    for card in CARDS.values():
        images = " + ".join(f"{count:,} {split}" for split, count in card.images.items())
        found = [path for paths in card.layouts for path in paths if (root / path).exists()]
        size = sum(size_of(root / path) for path in found)
        table.add_row(card.name, ", ".join(card.roles), images, human(size) if found else "–", state_of(card, root))
    console().print(table)
    return 0


def state_of(card: Card, root: Path) -> str:
    """Whether a set stands under the root, in a few words."""
    if card.layout(root):
        return "[green]there[/]"
    missing = [path for path in card.layouts[0] if not stands(root / path)]
    if len(missing) < len(card.layouts[0]):
        return f"[yellow]incomplete[/]: {', '.join(missing)} missing"
    return "not there: `prepare` fetches it" if card.archives else "not there: to be placed by hand, see `show`"


def run_show(words: argparse.Namespace, root: Path) -> int:
    """Print the pages of sets."""
    cards = [card_of(name) for name in words.names]
    from aloe_lightning.data.sets.readers import page_of

    for card in cards:
        print(f"{card.name}: {page_of(card.name)}\n{card.by_hand and f'By hand: {card.by_hand}' + chr(10)}")
    return 0


def run_prepare(words: argparse.Namespace, root: Path) -> int:
    """Fetch sets, each in spite of the others' failures."""
    cards = [card_of(name) for name in words.names if name != "all"]
    if "all" in words.names:
        cards = [card for card in CARDS.values() if card.archives]
    failures = []
    for card in cards:
        try:
            for line in prepare(card, root):
                print(line, flush=True)
        except UserError as error:
            failures.append(error)
            print(f"aloe_lightning.data: error: {error}", file=sys.stderr, flush=True)
    if len(cards) > 1:
        print(f"{len(cards) - len(failures)} of {len(cards)} sets are there")
    return 2 if failures else 0


def run_check(words: argparse.Namespace, root: Path) -> int:
    """Print a verdict on each set."""
    meant = [own_path(name) or card_of(name) for name in words.names]
    from aloe_lightning.data.download.check import check, check_own

    verdicts = [check_own(one) if isinstance(one, Path) else check(one.name, root) for one in meant]
    table = Table("name", "state", "images", box=box.SIMPLE_HEAD)
    table.add_column("note", ratio=1, overflow="fold")
    for verdict in verdicts:
        colour = COLOURS.get(verdict.state, "red")
        images = " + ".join(f"{count:,} {split}" for split, count in verdict.counts.items())
        table.add_row(escape(verdict.name), f"[{colour}]{verdict.state}[/]", images or "–", escape(verdict.note))
    console().print(table)
    good = {"official", "complete"} if words.strict else {"official", "complete", "usable"}
    # No published sums exist for images of one's own.
    return 0 if all(v.state in good or (v.state == "usable" and v.name not in CARDS) for v in verdicts) else 1


def run_sample(words: argparse.Namespace, root: Path) -> int:
    """Write a contact sheet."""
    path = own_path(words.name)
    name = path.resolve().stem if path is not None else words.name if words.name == "demo" else card_of(words.name).name
    from aloe_lightning.data.contact_sheet import contact_sheet, rows_of, rows_of_warped, write_sheet
    from aloe_lightning.data.sets.readers import demo_parts, named_parts, own_parts

    if path is not None:
        parts = own_parts(path)
    else:
        parts = demo_parts() if name == "demo" else named_parts(name, root, verify=False)
    split = words.split or next(iter(parts))
    if split not in parts:
        raise UserError(f"{name} has no split {split!r}: {', '.join(parts)}")
    rows = (rows_of_warped if words.augmented else rows_of)(parts[split](), words.seed)
    sheet = contact_sheet(rows, blocks=2 if words.augmented else 1)
    output = words.output or Path(f"{name}.png")
    output = output / f"{name}.png" if output.is_dir() else output
    write_sheet(sheet, output)
    print(f"wrote {output} ({sheet.width} x {sheet.height})")
    return 0


def own_path(name: str) -> Path | None:
    """The path to images of one's own that a word means; None if it is the name of a set."""
    path = Path(name).expanduser()
    known = name in CARDS or name == "demo"
    return path if not known and ("/" in name or path.suffix in (".npy", ".npz") or path.exists()) else None


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    return path.stat().st_size if path.is_file() else sum(f.stat().st_size for f in path.rglob("*") if f.is_file())


def human(size: int) -> str:
    """Bytes in the unit that suits them."""
    for unit, bytes_each in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= bytes_each:
            return f"{size / bytes_each:,.1f} {unit}"
    return f"{size} B"


def console() -> Console:
    """Wide enough for a table where no terminal says how wide."""
    return Console(width=None if sys.stdout.isatty() else WIDTH, emoji=False)


if __name__ == "__main__":
    sys.exit(main())
