"""The command line: any order of arguments, one clear line for a mistake, then Hydra."""

import logging
import os
import sys
import time
import traceback
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from aloe_lightning.cli.arguments import nearest_override, normalised
from aloe_lightning.config.validation import register_resolvers, validated
from aloe_lightning.errors import UserError
from aloe_lightning.storage.store import FAILED, is_done

DEMO = ["--multirun", "+sweep=methods"]

log = logging.getLogger(__name__)


class Session(Callback):
    """Remembers how far Hydra got and where results go, for what `main` does last.

    The tables are shown once and last, also when a job of a sweep failed; Hydra's `on_multirun_end` is left out then.
    """

    composed: bool = False
    folder: Path | None = None

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Called by Hydra before a single run."""
        Session.folder = Path(config.paths.outputs)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Called by Hydra before a sweep, in the process that starts the jobs."""
        Session.folder = Path(config.paths.outputs)

    @classmethod
    def show_tables(cls, since: float) -> None:
        """Print what was tabulated since a time; not in the further processes of a distributed training."""
        if cls.folder is not None and cls.folder.is_dir() and os.environ.get("LOCAL_RANK", "0") == "0":
            from aloe_lightning.report import show_studies

            if show_studies(cls.folder, since):
                print(f"The whole report, with margins and figures: python -m aloe_lightning.report {cls.folder}")

    @classmethod
    def show_failures(cls, since: float) -> None:
        """Name the cells of a sweep that failed since a time, each with its log."""
        if cls.folder is None:
            return
        logs = [path for path in sorted(cls.folder.glob(f"*/*/{FAILED}")) if path.stat().st_mtime >= since]
        if logs:
            print(f"{len(logs)} of the cells failed; the same command again computes what is missing:", file=sys.stderr)
        for path in logs:
            lines = path.read_text().strip().splitlines() or [""]
            print(f"  {path.parent.name}: {lines[-1]}\n    {path.absolute()}", file=sys.stderr)


register_resolvers()


@hydra.main(version_base="1.3", config_path="pkg://aloe_lightning.conf", config_name="config")
def job(cfg: DictConfig) -> None:
    """One job of Hydra's: a cell."""
    Session.composed = True
    folder = Path(HydraConfig.get().runtime.output_dir)
    (folder / FAILED).unlink(missing_ok=True)
    try:
        config = validated(cfg)
        refuse_processes_in_a_sweep(config)
        if not config["enabled"]:
            return
        if config["recompute"] == "nothing" and is_done(config, folder):
            log.info("done before, recompute=evaluation or recompute=training computes it again: %s", folder)
            show_again(folder)
            return
        from aloe_lightning.run import run_cell  # torch takes seconds to import; a config error should not wait for it

        run_cell(config, folder)
    except Exception as error:
        # Hydra adds a line of its own to an exception. A sweep needs the exception all the same: its other jobs go on.
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            (folder / FAILED).write_text(traceback.format_exc())
        elif isinstance(error, UserError) and cfg.get("debug") is not True:
            tell(error)
        raise


def show_again(folder: Path) -> None:
    """Have the tables of a cell that was done before shown at the end; made first if they are older than a result."""
    tables = folder.parent / "tables.csv"
    newest = max(path.stat().st_mtime for path in folder.parent.glob("*/records.jsonl"))
    if tables.is_file() and tables.stat().st_mtime >= newest:
        os.utime(tables)
        return
    from aloe_lightning.evaluation.records import read_records
    from aloe_lightning.report import write_report

    write_report(folder.parent, read_records(folder / "records.jsonl"))


def refuse_processes_in_a_sweep(config: dict[str, Any]) -> None:
    """Lightning starts further processes with this one's command line, so each would start the whole sweep again."""
    devices = config["trainer"]["devices"]
    single = devices in (1, "1") or (isinstance(devices, list) and len(devices) == 1)
    if HydraConfig.get().mode == RunMode.MULTIRUN and not (single and config["trainer"]["num_nodes"] == 1):
        raise UserError(
            f"a sweep gives each job one device, trainer.devices=1 (got {devices}); spread jobs by launcher="
        )


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exits with 2 for a mistake of the user's, 1 for one of ours.

    Args:
        arguments: of the command; without any, the embedded demo with all five objectives.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    sys.argv[1:] = normalised(arguments)
    if not set(sys.argv[1:]) - {"--dry"}:
        sys.argv[1:] += DEMO
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing and exiting
    started, Session.composed, Session.folder = time.time(), False, None
    os.environ["ALOE_STARTED"] = str(started)
    try:
        if "--dry" in arguments:
            from aloe_lightning.cli.dry_run import show_plan

            show_plan([word for word in sys.argv[1:] if word != "--dry"])
            return
        try:
            job()
        finally:
            Session.show_tables(since=started)
            Session.show_failures(since=started)
    except (UserError, HydraException, OmegaConfBaseException) as error:
        if "debug=true" in (argument.lower() for argument in arguments):
            raise
        tell(error)
    except (OSError, ValueError) as error:  # Hydra's own, for a group set to null or a folder that cannot be made
        if Session.composed:
            raise
        tell(error)
    except BrokenExecutor:  # a launcher's process was killed, and the launcher gives up
        told = "a job of the sweep was killed, by hand or for want of memory: the same command computes what is missing"
        print(f"aloe_lightning: error: {told}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("aloe_lightning: interrupted", file=sys.stderr)
        sys.exit(130)


def tell(error: Exception) -> NoReturn:
    """Say in one line what is wrong and exit with 2."""
    print(f"aloe_lightning: error: {one_line(error)}", file=sys.stderr)
    sys.exit(2)


def one_line(error: Exception) -> str:
    """A message without its line breaks, with the nearest valid name where Hydra gives none."""
    told = str(error).split("Config search path")[0].split("To append to your config")[0]
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    text = " ".join(line if line[-1] in ".,:;?!" else line + ";" for line in lines).rstrip(";")
    hint = nearest_override(str(error))
    return text.rstrip(".") + hint if hint else text
