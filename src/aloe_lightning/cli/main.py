"""The command line: arguments in any order, one clear line for a user error, then Hydra."""

import logging
import os
import platform
import sys
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from aloe_lightning import __version__
from aloe_lightning.cli.mistakes import exit_with
from aloe_lightning.cli.optimize import metric_of, require_metric
from aloe_lightning.cli.session import Session
from aloe_lightning.config.resolvers import register_resolvers
from aloe_lightning.config.root import Root
from aloe_lightning.config.validation import validated
from aloe_lightning.errors import UserError
from aloe_lightning.runtime.devices import exclusive_gpu
from aloe_lightning.runtime.process import EXIT_CODE, Stopped, command_folder, end_with_parent, started_by_a_launcher
from aloe_lightning.storage.cells import FAILED, computed_since, is_done
from aloe_lightning.storage.files import writable
from aloe_lightning.storage.models import command_started

DEMO = ["--multirun", "+sweep=methods"]
FLAGS_WITH_VALUE = frozenset(
    {"--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd", "--package", "-p", "--cfg", "-c"}
    | {"--experimental-rerun", "-er"}
)
INFO_TOPICS = frozenset({"all", "config", "defaults", "defaults-tree", "plugins", "searchpath"})
FOLDER_KEYS = ("hydra.run.dir=", "hydra.sweep.dir=", "hydra.sweep.subdir=")
OTHER_MODES = frozenset({"-m", "--multirun", "-c", "--cfg", "-i", "--info", "-h", "--help"})

log = logging.getLogger(__name__)
register_resolvers()


@hydra.main(version_base="1.3", config_path="pkg://aloe_lightning.conf", config_name="config")
def job(cfg: DictConfig) -> float | None:
    """Run one Hydra job: a cell; return the metric that `optimize` names."""
    Session.composed = True
    folder = Path(HydraConfig.get().runtime.output_dir)
    (folder / FAILED).unlink(missing_ok=True)
    os.chdir(command_folder())  # a worker of Ray starts elsewhere
    parent = int(os.environ.get("ALOE_PID", "0"))
    is_worker = cfg.launcher.name == "joblib" and parent != os.getpid()
    if is_worker:
        end_with_parent(parent)
    try:
        config = validated(cfg)
        _refuse_processes_in_a_sweep(config)
        if config["enabled"]:
            return _run_or_show(config, folder)
    except Stopped:
        if is_worker and os.getppid() != parent:  # joblib's worker would wait for another job for ever
            os._exit(EXIT_CODE)
        raise
    except Exception as error:
        # Hydra prints an extra line for an exception, but a sweep needs the exception to continue with its other jobs.
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            (folder / FAILED).write_text(traceback.format_exc())
        elif isinstance(error, UserError) and cfg.get("debug") is not True:
            exit_with(error)
        raise
    return None


def _run_or_show(config: dict[str, Any], folder: Path) -> float | None:
    from aloe_lightning.config.migration import migrate

    if (metric := config["optimize"]) is not None:
        require_metric(metric, config)

    migrate(Path(config["paths"]["outputs"]))
    # Several processes decide together, in `run_cell`.
    current = config["recompute"] == "nothing" or computed_since(folder, command_started())
    if current and not started_by_a_launcher() and is_done(config, folder):
        log.info("done before, recompute=evaluation or recompute=training computes it again: %s", folder)
        _show_again(folder)
        if metric is None:
            return None
        from aloe_lightning.evaluation.records import read_records

        return metric_of(metric, read_records(folder / "records.jsonl"))
    from aloe_lightning.run import run_cell  # torch takes seconds to import; a config error should not wait for it

    trainer = config["trainer"]
    hands_out = config["launcher"]["name"] == "joblib" and trainer["accelerator"] in ("auto", "gpu", "cuda")
    # Inside the job, because joblib uses a process for several jobs.
    with exclusive_gpu() if hands_out and trainer["devices"] in (1, "1") else nullcontext():
        records = run_cell(config, folder)
    return None if metric is None else metric_of(metric, records)


def _show_again(folder: Path) -> None:
    """Mark a run and its study's tables to be shown at the end; write them first if they are older than a result."""
    study = folder.parent
    with writable(folder):
        os.utime(folder / "config.json")
    tables = study / "tables.csv"
    newest = max(path.stat().st_mtime for path in study.glob("*/records.jsonl"))
    if tables.is_file() and tables.stat().st_mtime >= newest:
        os.utime(tables)
        return
    from aloe_lightning.report import write_study

    write_study(study)


def _refuse_processes_in_a_sweep(config: dict[str, Any]) -> None:
    """Refuse several devices in a sweep: each process of Lightning would run the command line of the whole sweep."""
    devices = config["trainer"]["devices"]
    single = devices in (1, "1") or (isinstance(devices, list) and len(devices) == 1)
    if HydraConfig.get().mode == RunMode.MULTIRUN and not (single and config["trainer"]["num_nodes"] == 1):
        raise UserError(
            f"a sweep gives each job one device, trainer.devices=1 (got {devices}); spread jobs by launcher="
        )


def main(arguments: list[str] | None = None) -> None:
    """Run the command line, without arguments the demo; exit code 2 for a user error, 1 for an internal error."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if arguments[:1] == ["models"]:
            from aloe_lightning.cli.models import main as models

            sys.exit(models(arguments[1:]))
        sys.argv[1:] = normalised(arguments)
    except UserError as error:
        exit_with(error)
    if not set(sys.argv[1:]) - {"--dry", "--commands"}:
        sys.argv[1:] += DEMO
    if "--version" in arguments:  # Hydra would print its own
        from importlib.metadata import version

        libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "pytorch-lightning", "hydra-core"))
        print(f"aloe_lightning {__version__} (Python {platform.python_version()}, {libraries})")
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing and exiting
    started = time.time()
    os.environ["ALOE_STARTED"] = str(started)
    os.environ["ALOE_PID"], os.environ["ALOE_FOLDER"] = str(os.getpid()), str(Path.cwd())
    Session.start()
    try:
        if "--dry" in arguments:
            from aloe_lightning.cli.dry_run import show_commands, show_plan

            show = show_commands if "--commands" in arguments else show_plan
            show([word for word in sys.argv[1:] if word not in ("--dry", "--commands")])
        elif {"--help", "-h"} & set(arguments):
            from aloe_lightning.cli.help import show_help

            show_help([word for word in sys.argv[1:] if not word.startswith("-")])
        else:
            from aloe_lightning.cli.sweep import run_command

            run_command(job, sys.argv[1:], started)
    except (UserError, HydraException, OmegaConfBaseException) as error:
        if "debug=true" in (argument.lower() for argument in arguments):
            raise
        exit_with(error)
    except (OSError, ValueError) as error:  # raised by Hydra for a group set to null or a folder that cannot be created
        if Session.composed:
            raise
        exit_with(error)
    except BrokenExecutor:  # a process of the launcher was killed, and the launcher stops
        exit_with(
            "jobs of the sweep were killed by a user or for lack of memory: the same command computes the rest", 1
        )
    except KeyboardInterrupt:
        print("aloe_lightning: interrupted", file=sys.stderr)
        sys.exit(130)


def quoted(word: str) -> str:
    """Quote the value of an override that is a plain text with characters that Hydra's grammar does not have."""
    key, equals, value = word.partition("=")
    if not equals or value[:1] in ("'", '"') or set(value) & set(",[]{}()$\\\n"):
        return word  # quoted, a list, a sweep, a function or an interpolation
    # The shell expands ~ only at the beginning of a word.
    path = str(Path(value).expanduser()) if value.startswith("~/") else value
    if all(character.isascii() and character not in "='\"#~;!<>^&`" for character in path):
        return f"{key}={path}"
    escaped = path.replace("'", "\\'")
    return f"{key}='{escaped}'"


def normalised(arguments: Sequence[str]) -> list[str]:
    """Return the flags first and the overrides, quoted, after them, as Hydra's parser requires; UserError for --key.

    `--info` takes its value only as `--info=VALUE`, or as the next word if that is no override.
    """
    flags, overrides = [], []
    words = iter(arguments)
    for word in words:
        if not word.startswith("-"):
            # Lightning starts further processes with the folder that Hydra gave to the first.
            if word.lstrip("+").startswith(FOLDER_KEYS) and not started_by_a_launcher():
                raise UserError(
                    f"{word}: the folder of a run is paths.outputs/study/cell; set paths.outputs= or study="
                )
            overrides.append(quoted(word))
            continue
        if (key := word.lstrip("-").partition("=")[0]).split(".")[0] in {field.name for field in fields(Root)}:
            raise UserError(f"{word}: keys have no dashes before them: {key}=VALUE")
        flags.append(word)
        if word in FLAGS_WITH_VALUE:
            flags.extend([value for value in [next(words, None)] if value is not None])
    if flags and flags[-1] in ("--info", "-i") and overrides and overrides[0] in INFO_TOPICS:
        flags.append(overrides.pop(0))
    if any(word.startswith("+sweep=") for word in overrides) and not OTHER_MODES & set(flags):
        flags.append("--multirun")  # a sweep that does not sweep is never meant
    return flags + overrides
