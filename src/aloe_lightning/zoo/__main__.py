"""`python -m aloe_lightning.zoo`: list, show and check the nets that are installed with the package; add one."""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from aloe_lightning.errors import UserError
from aloe_lightning.storage.zoo import zoo_card, zoo_names


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 2 for a mistake of the user or a damaged net."""
    options = parser().parse_args(arguments)
    try:
        for line in options.run(options):
            print(line)
    except UserError as error:
        print(f"aloe_lightning.zoo: error: {error}", file=sys.stderr)
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    program = argparse.ArgumentParser(
        prog="python -m aloe_lightning.zoo",
        description="Nets trained to the end, installed with the package. checkpoint=zoo:NAME evaluates one.",
    )
    commands = program.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: object, text: str) -> argparse.ArgumentParser:
        parser = commands.add_parser(name, help=text, description=text)
        parser.set_defaults(run=run)
        return parser

    command("list", _list, "print the nets with their AUROC, clean and attacked")
    command("card", _card, "print the card of a net as JSON").add_argument("name")
    text = "compare files with their SHA-256, and the scores of embedded pictures with those of the cards"
    command("check", _check, text).add_argument("names", nargs="*", help="default: all")
    entry = command("add", _add, "add a trained net from finished evaluations of it")
    entry.add_argument("name", help="such as cifar10-aloe-eps1-small")
    entry.add_argument("runs", nargs="+", type=Path, help="folders of cells, one for each regime; `paper` first")
    entry.add_argument("--commit", default="", help="commit of the code that trained it")
    page = command("page", _page, "write the table of all nets")
    page.add_argument(
        "files", nargs="+", type=Path, help=".html, or .md, where the text between the markers is replaced"
    )
    return program


def _list(_: argparse.Namespace) -> Iterator[str]:
    from aloe_lightning.zoo.page import HEADINGS, rows

    table = [HEADINGS, *rows()]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _card(options: argparse.Namespace) -> Iterator[str]:
    yield json.dumps(zoo_card(options.name), indent=2)


def _check(options: argparse.Namespace) -> Iterator[str]:
    from aloe_lightning.zoo import load
    from aloe_lightning.zoo.sample import check_sample

    for name in options.names or zoo_names():
        difference = check_sample(load(name), zoo_card(name)["sample"])
        yield f"{name}: the file is whole, and scores differ from the card's by {difference:.1g} at most"


def _add(options: argparse.Namespace) -> Iterator[str]:
    from aloe_lightning.zoo.add import add

    yield str(add(options.name, options.runs, options.commit))


def _page(options: argparse.Namespace) -> Iterator[str]:
    from aloe_lightning.zoo.page import write

    for file in options.files:
        yield str(write(file))


if __name__ == "__main__":
    sys.exit(main())
