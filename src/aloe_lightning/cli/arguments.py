"""The command line's words before Hydra sees them, and what a mistyped one probably meant."""

import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from aloe_lightning.config.validation import known_keys, nearest

FLAGS_WITH_VALUE = frozenset(
    {"--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd", "--package", "-p", "--cfg", "-c"}
    | {"--experimental-rerun", "-er"}
)
INFO_TOPICS = frozenset({"all", "config", "defaults", "defaults-tree", "plugins", "searchpath"})


def normalised(arguments: Sequence[str]) -> list[str]:
    """Flags first, overrides after: Hydra's parser wants overrides in one piece, `+experiment=x -m epsilon=1,2` is not.

    `--info` takes its value only as `--info=VALUE` or right behind it when the value is no override.
    """
    flags, overrides = [], []
    words = iter(arguments)
    for word in words:
        if not word.startswith("-"):
            key, equals, value = word.partition("=")
            # Hydra's grammar has no ~ in a value; the shell expands it only at the beginning of a word.
            overrides.append(f"{key}={Path(value).expanduser()}" if equals and value.startswith("~/") else word)
            continue
        flags.append(word)
        if word in FLAGS_WITH_VALUE:
            flags.extend([value for value in [next(words, None)] if value is not None])
    if flags and flags[-1] in ("--info", "-i") and overrides and overrides[0] in INFO_TOPICS:
        flags.append(overrides.pop(0))
    other_modes = {"-m", "--multirun", "-c", "--cfg", "-i", "--info", "-h", "--help"}
    if any(word.startswith("+sweep=") for word in overrides) and not other_modes & set(flags):
        flags.append("--multirun")  # a sweep that does not sweep is never what was meant
    return flags + overrides


def nearest_override(message: str) -> str:
    """What Hydra's "Key 'x' is not in struct" or "Could not find 'group/x'" probably meant."""
    if key := re.search(r"Key '([^']+)' is not in struct", message):
        return nearest(key[1], known_keys())
    if "'ood/paper_for/" in message:
        return ": ood=paper is for the paper's data; 'ood=[textures]' or +ood.NAME=/path/to/images for others"
    if launcher := re.search(r"hydra/launcher/(\w+)", message):
        return f": pip install 'aloe-lightning[{launcher[1].split('_')[0]}]' brings it"
    if choice := re.search(r"Could not (?:find|load) '([\w/]+)/(\w+)'", message):
        group = files("aloe_lightning.conf").joinpath(choice[1])
        options = [Path(file.name).stem for file in group.iterdir()] if group.is_dir() else []
        return nearest(choice[2], options)
    if key := re.search(r"Could not override '(data\.(?:root|verify))'", message):
        return f": the demo has none; paths.data=FOLDER is for all sets, ++{key[1]}=... for a sweep over several"
    if key := re.search(r"Could not override '([^']+)'", message):
        return nearest(key[1].split(".")[-1], known_keys())
    return ""
