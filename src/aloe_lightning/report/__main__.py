"""`python -m aloe_lightning.report [DIR]`: the paper's tables and figures from all finished runs, or a leaderboard."""

import argparse
import os
import sys
from pathlib import Path

from aloe_lightning.errors import UserError


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 2 for a mistake of the user."""
    parser = argparse.ArgumentParser(
        prog="python -m aloe_lightning.report",
        description="Write Tables 1 to 4 and Figure 2 from the finished runs under a folder, next to the paper's "
        "numbers, as HTML, Markdown, LaTeX and CSV. Missing cells are listed.",
    )
    default = os.environ.get("ALOE_OUTPUTS", "outputs")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(default), help=f"of results (default: {default})")
    parser.add_argument("--out", type=Path, help="where the report goes (default: report/ in the folder)")
    parser.add_argument("--leaderboard", action="store_true", help="rank the leaderboard entries under the folder")
    chosen = parser.parse_args(arguments)
    from aloe_lightning.report.leaderboard import write_leaderboard
    from aloe_lightning.report.reports import report

    write = write_leaderboard if chosen.leaderboard else report
    try:
        written = write(chosen.folder, chosen.out or chosen.folder / "report")
    except UserError as error:
        print(f"aloe_lightning.report: error: {error}", file=sys.stderr)
        return 2
    for path in written:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
