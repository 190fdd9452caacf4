"""The command line: any order of arguments, one clear line for a mistake, then Hydra."""

import os
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from aloe_lightning.arguments import nearest_override, normalised
from aloe_lightning.config import validated
from aloe_lightning.errors import UserError

DEMO = ["--multirun", "+sweep=methods"]


@hydra.main(version_base="1.3", config_path="pkg://aloe_lightning.conf", config_name="config")
def job(cfg: DictConfig) -> None:
    """One job of Hydra's: a cell."""
    config = validated(cfg)
    from aloe_lightning.run import run_cell  # torch takes seconds to import; a config error should not wait for it

    run_cell(config, Path(HydraConfig.get().runtime.output_dir))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exits with 2 for a mistake of the user's, 1 for one of ours.

    Args:
        arguments: of the command; without any, the embedded demo with all five objectives.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    sys.argv[1:] = normalised(arguments) or DEMO
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing and exiting
    try:
        job()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        if "debug=true" in (argument.lower() for argument in arguments):
            raise
        print(f"aloe_lightning: error: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("aloe_lightning: interrupted", file=sys.stderr)
        sys.exit(130)


def one_line(error: Any) -> str:
    """A message without its line breaks, with the nearest valid name where Hydra gives none."""
    told = str(error).split("Config search path")[0]
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    text = " ".join(line if line[-1] in ".,:;?!" else line + ";" for line in lines).rstrip(";")
    return text + nearest_override(str(error))
