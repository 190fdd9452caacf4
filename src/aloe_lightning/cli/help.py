"""`--help`: the groups and every key of the config, each with its value, comment and type."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from aloe_lightning.config.layout import places
from aloe_lightning.signatures.description import describe

HEADER = """\
aloe_lightning: train, attack, score and tabulate robust out-of-distribution detectors (arXiv:2003.09711).

  python -m aloe_lightning                                        the embedded demo: all five objectives
  python -m aloe_lightning +experiment=cifar10_aloe               one cell of the paper
  python -m aloe_lightning -m +experiment=cifar10 objective=oe,aloe epsilon=1,2
  python -m aloe_lightning +sweep=paper --dry                     the cells of a sweep, and which are done
"""
FOOTER = "Every key can be overridden as key=value. Hydra's own help: --hydra-help"
WIDTH = 120


def show_help(overrides: Sequence[str]) -> None:
    """Print the help for the config that the overrides compose."""
    with initialize_config_module("aloe_lightning.conf", version_base="1.3"):
        config = compose("config", list(overrides))
    values: Any = OmegaConf.to_container(config, resolve=False)
    lines = [HEADER, "== Groups: choose one with group=name (experiment, scale and sweep with +) ==", *_groups()]
    print("\n".join([*lines, "", "== Config ==", *_keys(values), "", FOOTER]))


def _groups() -> Iterator[str]:
    for group in sorted(files("aloe_lightning.conf").iterdir(), key=lambda place: place.name):
        if group.is_dir() and not group.name.startswith("_"):
            names = sorted(Path(file.name).stem for file in group.iterdir() if file.name.endswith(".yaml"))
            text = f"{group.name}: {', '.join(names)}"
            yield from textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _keys(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each key: `section.key: value   # comment`."""
    for place in places(content):
        if not isinstance(place.keys, Mapping):
            continue
        try:
            description = describe(place.target) if place.target else None
        except LookupError:
            description = None
        parameters = description.parameters if description else {}
        indent = ""
        if place.path:
            yield f"{place.path}:" + (f"   # {place.target}" if description and "_target_" in place.keys else "")
            indent = "  "
        for key, value in place.keys.items():
            if key == "_target_" or (isinstance(value, Mapping) and place.path in ("", "attack")):
                continue
            comment = parameters[key].comment if key in parameters else ""
            if place.labelled and key == "name":
                comment = "label in records and folders"
            shown = OmegaConf.to_yaml({key: value}, resolve=False).strip().replace("\n", " ")
            line = f"{indent}{shown}   # {comment}" if comment else f"{indent}{shown}"
            if len(line) > WIDTH and comment:
                yield from textwrap.wrap(comment, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
                line = f"{indent}{shown}"
            yield line
