"""A user's mistake in one line, with the nearest valid name where Hydra gives none."""

import re
import sys
from importlib.resources import files
from pathlib import Path
from typing import NoReturn

from aloe_lightning.config.layout import RENAMED
from aloe_lightning.config.validation import known_keys
from aloe_lightning.errors import did_you_mean


def exit_with(error: Exception | str, code: int = 2) -> NoReturn:
    """Print an error in one line and exit."""
    print(f"aloe_lightning: error: {one_line(error)}", file=sys.stderr)
    sys.exit(code)


def one_line(error: Exception | str) -> str:
    """Return a message without its line breaks, and a hint after it."""
    message = (
        str(error).split("Config search path")[0].split("To append to your config")[0].split("See https://hydra")[0]
    )
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    text = " ".join(line if line[-1] in ".,:;?!" else line + ";" for line in lines).rstrip(";")
    hint = _hint_for(str(error))
    return text.rstrip(".") + hint if hint else text


def _hint_for(message: str) -> str:
    """Return what was probably meant by a key or a choice that Hydra does not know; "" if nothing is near."""
    if match := re.search(r"Could not override '([^']+)'|Key '([^']+)' is not in struct", message):
        key = match[1] or match[2]
        if key in RENAMED:
            return f": it is now called {RENAMED[key]}"
        if re.fullmatch(r"ood\.[\w-]+", key):
            return f": +{key}=/path/to/images adds a test set"
        return did_you_mean(key.split(".")[-1], known_keys())
    if "override_grammar" in message:
        return """; quote a value with such characters twice: 'key="value"'"""
    if "'ood/paper_for/" in message:
        return ": ood=paper is for the paper's data; 'ood=[textures]' or +ood.NAME=/path/to/images for others"
    if launcher := re.search(r"hydra/(?:launcher|sweeper)/(\w+)", message):
        return f": pip install 'aloe-lightning[{launcher[1].split('_')[0]}]' installs it"
    if choice := re.search(r"Could not (?:find|load) '([\w/]+)/(\w+)'", message):
        group = files("aloe_lightning.conf").joinpath(choice[1])
        options = [Path(file.name).stem for file in group.iterdir()] if group.is_dir() else []
        return _removed_experiment(choice[2]) or did_you_mean(choice[2], options)
    return ""


def _removed_experiment(name: str) -> str:
    data, _, objective = name.rpartition("_")
    if objective in ("original", "oe", "adv", "aoe", "aloe"):
        experiment = "" if data == "demo" else f"+experiment={data} "
        return f": {experiment}objective={objective} is the way"
    return ": +scale=small is the way" if objective == "small" else ""
