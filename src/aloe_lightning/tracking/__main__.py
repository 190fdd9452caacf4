"""`python -m aloe_lightning.tracking`: create the W&B workspace and report of a project."""

import argparse
import sys

from aloe_lightning.errors import UserError
from aloe_lightning.tracking.dashboard import create


def main(arguments: list[str] | None = None) -> int:
    """Create both for the account that is logged in; returns 2 for a mistake of the user."""
    parser = argparse.ArgumentParser(
        prog="python -m aloe_lightning.tracking",
        description="Create the W&B workspace and report of a project whose runs were logged with logger=wandb. "
        "Requires `wandb login` and the extra [dashboards].",
    )
    parser.add_argument("--project", default="aloe_lightning", help="as logger.project has it (default: %(default)s)")
    parser.add_argument("--entity", help="user or team (default: yours)")
    chosen = parser.parse_args(arguments)
    try:
        for url in create(chosen.project, chosen.entity):
            print(url)
    except UserError as error:
        print(f"aloe_lightning.tracking: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
