"""Weights on disk: ours, Lightning's, and state dicts of other programs; no pickled code is ever run."""

import argparse
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from aloe_lightning.errors import UserError
from aloe_lightning.storage.files import atomic_write, zip_damage
from aloe_lightning.storage.zoo import checkpoint_file

WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "params", "weights")
"""Keys under which programs save a state dict next to an epoch, an accuracy or an optimiser's state."""
PREFIXES = ("module.", "model.", "net.", "_orig_mod.", "backbone.")
"""Prefixes of parameter names that come from a wrapper around a net."""
AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
"""Keys of the running averages of weights; they are used only where a file has nothing else."""
HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")),
    (np.float64(0).__reduce__()[0], "numpy._core.multiarray.scalar"),
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
]
"""Types of plain values that training scripts save next to weights, such as an accuracy as a NumPy number."""

DAMAGED = (
    "truncated, or holds more than tensors and plain values. Of a pickled module save the state dict: "
    "torch.save(net.state_dict(), path); a TorchScript or torch.export file is a net of its own: net=file net.path="
)

log = logging.getLogger(__name__)
StateDict = Mapping[str, Tensor]


def save_weights(path: Path, net: nn.Module, about: Mapping[str, Any]) -> None:
    """Save a net's state dict as safetensors, with plain facts about it as JSON in the file's header."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    with atomic_write(path) as part:
        part.write_bytes(save(state, metadata={"about": json.dumps(about)}))


def load_weights(path: str | Path, net: nn.Module) -> None:
    """Load weights into a net: safetensors, a Lightning checkpoint, or a state dict of another program.

    `zoo:NAME` is a net of the zoo. The state dict may be saved under one of `WRAPPERS`, and its names may have
    `PREFIXES`, also several, or any other prefix if it is the only one that fits. They are removed if the remaining
    names are those of the net, and the log says so. Floating-point tensors are converted to the types of the net's
    parameters.

    Raises:
        UserError: if the file is missing, cannot be read safely, or belongs to another architecture or number of
            classes; if several nets in it fit; if weights are not finite, or no plain floating-point numbers.
    """
    file = checkpoint_file(path)
    expected = net.state_dict()
    core = without_prefix(expected, common_prefix(expected))
    candidates = list(_state_dicts(read_checkpoint(file), file))
    fitting = [(key, *match) for key, given in candidates if (match := _match(given, core)) is not None]
    if not fitting:
        raise UserError(_misfit(file, net, _bare(candidates[0][1]), core))
    key, prefix, state, left_out = fitting[0]
    _refuse_unusable(file, state, core)
    notes = [
        f"the state dict under {key!r}" * bool(key),
        f"without the prefix {prefix!r} of its names" * bool(prefix),
        f"leaving out {len(left_out)} further tensors ({', '.join(left_out[:3])})" * bool(left_out),
        f"and not the one under {fitting[-1][0]!r}, which also fits" * (len(fitting) > 1),
    ]
    halves = sorted({str(t.dtype) for name, t in state.items() if t.dtype != core[name].dtype})
    notes.append(f"converted from {', '.join(halves)}" * bool(halves))
    if any(notes):
        log.info("%s: %s", file, ", ".join(note for note in notes if note))
    names = dict(zip(core, expected, strict=True))
    net.load_state_dict({**expected, **{names[name]: tensor for name, tensor in state.items()}})


def read_checkpoint(file: Path) -> Any:
    """Return the content of a checkpoint: tensors and plain values in containers.

    Raises:
        UserError: if the file is missing, damaged, or holds pickled objects or a program.
    """
    if not file.is_file():
        kind = "is a folder, no file" if file.is_dir() else "does not exist"
        raise UserError(f"no checkpoint at {file.absolute()}, which {kind}: correct checkpoint=")
    try:
        start = _first_bytes(file)
        if start[8:9] == b"{":  # safetensors, whatever the file is called
            return load_file(file)
        if start.startswith(b"PK") and (damage := zip_damage(file)):
            raise UserError(f"cannot read the checkpoint {file.absolute()}: {damage}; it is truncated or damaged")
        with torch.serialization.safe_globals(HARMLESS), file.open("rb") as stream:
            return torch.load(stream, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # torch raises whatever the damage suggests
        if isinstance(error, OSError) and error.strerror:
            raise UserError(f"cannot read the checkpoint {file.absolute()}: {error.strerror}") from error
        raise UserError(f"cannot read the checkpoint {file.absolute()}: {_kind_of(start)}") from error


def _first_bytes(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(64)


def _kind_of(start: bytes) -> str:
    """Say what a file that is no checkpoint is, by its first bytes."""
    kinds = {
        b"version https://git-lfs": "a pointer of Git LFS, not the file itself: `git lfs pull` downloads it",
        b"\x93NUMPY": "a NumPy array, no state dict",
        b"<": "a web page, not the file itself: download it again",
        b"\x1f\x8b": "compressed by gzip: unpack it",
    }
    if not start:
        return "it is empty"
    return next((text for mark, text in kinds.items() if start.lstrip().startswith(mark)), DAMAGED)


def _state_dicts(content: Any, file: Path, key: str = "") -> Iterator[tuple[str, StateDict]]:
    """Yield the state dicts in a checkpoint, each with the key that it is under."""
    if isinstance(content, Mapping) and content and all(isinstance(value, Tensor) for value in content.values()):
        yield key, content
        return
    found = False
    for wrappers in (WRAPPERS, AVERAGES) if isinstance(content, Mapping) else ():
        for wrapper in () if found else wrappers:
            if isinstance(content.get(wrapper), Mapping):
                for place, state in _state_dicts(content[wrapper], file, f"{key}.{wrapper}".lstrip(".")):
                    found = True
                    yield place, state
    if not found and isinstance(content, Mapping):
        tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
        if len(tensors) > 1:  # next to an epoch or an accuracy
            found = True
            yield key, tensors
    if not found and not key:
        keys = f"; its keys are {', '.join(map(str, list(content)[:6]))}" if isinstance(content, Mapping) else ""
        raise UserError(f"{file.absolute()} holds no state dict of tensors, also not under {', '.join(WRAPPERS)}{keys}")


def _match(given: StateDict, core: StateDict) -> tuple[str, StateDict, list[str]] | None:
    """Return the removed prefix, the state dict with the net's names and shapes, and the names of unused tensors.

    Raises:
        UserError: if two nets under different prefixes fit.
    """
    first = next(iter(core))
    prefixes = [name.removesuffix(first) for name in given if name.endswith(f".{first}")]
    states = {prefix: without_prefix(given, prefix) for prefix in prefixes}
    states = {p: state for p, state in states.items() if state.keys() <= core.keys() and _covers(state, core)}
    fitting = [p for p in states if "ema" not in p] or list(states)  # running averages: see `AVERAGES`
    if any(not torch.equal(states[fitting[0]][name], states[p][name]) for p in fitting[1:] for name in states[p]):
        raise UserError(f"several nets of the checkpoint fit, {', '.join(fitting)}: save the state dict of one of them")
    if (known := _match_known_prefix(given, core)) is not None or not fitting:
        return known
    return fitting[0], states[fitting[0]], [name for name in given if not name.startswith(fitting[0])]


def _match_known_prefix(given: StateDict, core: StateDict) -> tuple[str, StateDict, list[str]] | None:
    prefix, state = "", dict(given)
    while state:
        named = {name: tensor for name, tensor in state.items() if name in core}
        if len(named) == len(state) and _covers(named, core):
            return prefix, named, [name for name in given if not name.startswith(prefix)]
        step = _most_frequent_prefix(state)
        if not step:
            return None
        prefix, state = prefix + step, without_prefix(state, step)
    return None


def _covers(named: StateDict, core: StateDict) -> bool:
    """Return whether all of a net's tensors are there; old checkpoints lack BatchNorm's count of batches."""
    missing = [name for name in core if name not in named and not name.endswith("num_batches_tracked")]
    return not missing and all(tensor.shape == core[name].shape for name, tensor in named.items())


def _refuse_unusable(file: Path, state: StateDict, core: StateDict) -> None:
    """Raise a UserError if weights would not be what the net was trained with: NaN, whole numbers, no values."""
    for name, tensor in state.items():
        is_plain = tensor.layout == torch.strided and not tensor.is_meta and not tensor.is_quantized
        is_rounded = core[name].is_floating_point() and not tensor.is_floating_point()  # counts may be averages
        if not is_plain or is_rounded or tensor.is_complex():
            kind = "meta" if tensor.is_meta else f"{tensor.dtype} {tensor.layout}".replace("torch.", "")
            raise UserError(f"{file.absolute()}: {name} is {kind}, no plain floating-point tensor: convert it first")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise UserError(f"{file.absolute()}: {name} has values that are not finite: its training diverged")


def common_prefix(state: StateDict) -> str:
    """Return the longest sequence of `PREFIXES` that all names begin with."""
    prefix, names = "", list(state)
    while names and (step := next((p for p in PREFIXES if all(name.startswith(p) for name in names)), "")):
        prefix, names = prefix + step, [name.removeprefix(step) for name in names]
    return prefix


def without_prefix(state: StateDict, prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _most_frequent_prefix(state: StateDict) -> str:
    counts = {prefix: sum(name.startswith(prefix) for name in state) for prefix in PREFIXES}
    best = max(PREFIXES, key=lambda prefix: counts[prefix])
    return best if counts[best] else ""


def _bare(state: StateDict) -> StateDict:
    return without_prefix(state, common_prefix(state))


def _misfit(file: Path, net: nn.Module, given: StateDict, core: StateDict) -> str:
    """Say why a state dict does not fit a net."""
    differing = [name for name in core if name in given and given[name].shape != core[name].shape]
    missing, unknown = [n for n in core if n not in given], [n for n in given if n not in core]
    if not missing and not unknown and differing and _only_classes_differ(differing, given, core):
        classes, here = len(given[differing[0]]), len(core[differing[0]])
        return (
            f"{file.absolute()} has {classes} classes ({differing[0]}), net={type(net).__name__} has {here}: "
            f"set the net's number of classes to {classes}, and give data of these classes"
        )
    problems = {
        "missing": missing,
        "unknown": unknown,
        "of another shape": [f"{n} {tuple(given[n].shape)} for {tuple(core[n].shape)}" for n in differing],
    }
    listed = "; ".join(
        f"{len(names)} {kind} ({names[0]}{', ...' if len(names) > 1 else ''})"
        for kind, names in problems.items()
        if names
    )
    return f"{file.absolute()} is of another architecture than net={type(net).__name__}: {listed}"


def _only_classes_differ(names: list[str], given: StateDict, core: StateDict) -> bool:
    """Return whether only the first dimension of one layer's weight and bias differs, to the same number."""
    sizes = {(len(given[name]), len(core[name])) for name in names if given[name].ndim and core[name].ndim}
    same_rest = all(given[name].shape[1:] == core[name].shape[1:] for name in names)
    return len({name.rpartition(".")[0] for name in names}) == 1 and len(sizes) == 1 and same_rest
