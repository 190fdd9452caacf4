"""Weights on disk: ours, Lightning's and those in the format of the paper's code; no pickled code is ever run."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from aloe_lightning.errors import UserError
from aloe_lightning.storage.files import atomic_write

PREFIXES = ("net.", "module.", "_orig_mod.")


def save_weights(path: Path, net: nn.Module, about: Mapping[str, Any]) -> None:
    """Save a net's state dict as safetensors, with plain facts about it as JSON in the file's header."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    with atomic_write(path) as part:
        part.write_bytes(save(state, metadata={"about": json.dumps(about)}))


def load_weights(path: str | Path, net: nn.Module) -> None:
    """Load weights into a net from safetensors, a Lightning checkpoint, or a state dict with or without a wrapper.

    Raises:
        UserError: if the file is missing, cannot be read safely, or belongs to another architecture.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"no checkpoint at {file.absolute()}: correct checkpoint=")
    try:
        if file.suffix == ".safetensors":
            content: Any = load_file(file)
        else:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever the damage suggests
        raise UserError(
            f"cannot read the checkpoint {file.absolute()}: truncated, or holds more than tensors and plain values"
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise UserError(f"{file.absolute()} holds no state dict of tensors")
    expected = net.state_dict()
    given = dict(content) if set(content) == set(expected) else {_bare(name): t for name, t in content.items()}
    problems = {
        "missing": [name for name in expected if name not in given],
        "unknown": [name for name in given if name not in expected],
        "of another shape": [
            f"{name} {tuple(given[name].shape)} for {tuple(tensor.shape)}"
            for name, tensor in expected.items()
            if name in given and given[name].shape != tensor.shape
        ],
    }
    if any(problems.values()):
        listed = "; ".join(
            f"{len(names)} {kind} ({names[0]}{', ...' if len(names) > 1 else ''})"
            for kind, names in problems.items()
            if names
        )
        raise UserError(f"{file.absolute()} is of another architecture than net={type(net).__name__}: {listed}")
    net.load_state_dict(given)


def _bare(name: str) -> str:
    while name.startswith(PREFIXES):
        name = name.split(".", 1)[1]
    return name
