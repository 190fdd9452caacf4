"""The words of the command line before Hydra sees them."""

from collections.abc import Sequence
from pathlib import Path

FLAGS_WITH_VALUE = frozenset(
    {"--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd", "--package", "-p", "--cfg", "-c"}
    | {"--experimental-rerun", "-er"}
)
INFO_TOPICS = frozenset({"all", "config", "defaults", "defaults-tree", "plugins", "searchpath"})
OTHER_MODES = frozenset({"-m", "--multirun", "-c", "--cfg", "-i", "--info", "-h", "--help"})


def normalised(arguments: Sequence[str]) -> list[str]:
    """Return the flags first and the overrides after them, as Hydra's parser requires.

    `--info` takes its value only as `--info=VALUE`, or as the next word if that is no override.
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
    if any(word.startswith("+sweep=") for word in overrides) and not OTHER_MODES & set(flags):
        flags.append("--multirun")  # a sweep that does not sweep is never meant
    return flags + overrides
