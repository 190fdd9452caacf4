"""Files of the zoo: nets that are installed with the package, a file of weights and a card each. Imports no torch."""

import hashlib
from pathlib import Path
from typing import Any

from aloe_lightning.errors import UserError, did_you_mean
from aloe_lightning.storage.files import read_json

FOLDER = Path(__file__).parents[1] / "zoo" / "weights"
"""Folder of `NAME.safetensors` and `NAME.json`."""
PREFIX = "zoo:"
"""Begins a `checkpoint=` that names a net of the zoo."""


def zoo_names() -> list[str]:
    """Return the names of all nets in alphabetical order."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def zoo_card(name: str) -> dict[str, Any]:
    """Return the card of a net: training, data, results with intervals, and the SHA-256 of its file.

    Raises:
        UserError: if there is no such net; the message gives the nearest name.
    """
    names = zoo_names()
    if name not in names:
        hint = did_you_mean(name, names, cutoff=0.4) or "."
        raise UserError(f"no net {name!r} in the zoo{hint} It has: {', '.join(names) or 'none yet'}")
    return read_json(FOLDER / f"{name}.json")


def zoo_weights(name: str) -> Path:
    """Return the file of a net's weights.

    Raises:
        UserError: if there is no such net, or if the file is not the one that its card describes, to the last byte.
    """
    expected = zoo_card(name).get("sha256")
    file = FOLDER / f"{name}.safetensors"
    digest = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "missing"
    if digest != expected:
        raise UserError(f"{file} is damaged: its SHA-256 is {digest}, its card states {expected}; install again")
    return file


def zoo_name(checkpoint: str | Path | None) -> str | None:
    """Return the name in a `checkpoint=zoo:NAME`; None for a file, or for no checkpoint."""
    text = str(checkpoint)
    return text.removeprefix(PREFIX) if text.startswith(PREFIX) else None


def checkpoint_file(checkpoint: str | Path) -> Path:
    """Return the file of a `checkpoint=`: a path, or a net of the zoo as `zoo:NAME`."""
    name = zoo_name(checkpoint)
    return Path(checkpoint).expanduser() if name is None else zoo_weights(name)
