"""BatchNorm and ReLU over rows of channels, each part in one pass over the memory where a C++ compiler is at hand.

On a CPU, `kernels.cpp` is compiled once (about ten seconds) and kept in the cache; without a compiler, and for other
devices and types, PyTorch's own operations do the same in several passes. `ALOE_KERNELS=0` asks for these.
"""

import functools
import logging
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aloe_lightning.data.cache import cached, fingerprint
from aloe_lightning.errors import UserError

SOURCE = Path(__file__).with_name("kernels.cpp")
log = logging.getLogger(__name__)


def kernels_for(device: torch.device) -> bool:
    """Whether there are compiled kernels for a device; compiles them first where they can be had."""
    return device.type == "cpu" and _library() is not None


def relu_affine(x: Tensor, scale: Tensor, shift: Tensor, out: Tensor) -> Tensor:
    """relu(x * scale + shift).

    Args:
        x: (M, C), channels neighbours, rows possibly apart.
        scale: (C,).
        shift: (C,).
        out: (M, C) of the type of `x`, written and returned.
    """
    compiled = _compiled(x, scale)
    if compiled is not None:
        compiled.relu_affine(x, scale, shift, out)
        return out
    return torch.relu_(out.copy_(torch.addcmul(shift, x, scale)))


def relu_affine_backward(
    d: Tensor, x: Tensor, scale: Tensor, shift: Tensor, into: Tensor, sums: Tensor | None = None
) -> None:
    """Add the gradient of `x` to `into`: scale * d where x * scale + shift > 0.

    Args:
        d: gradient (M, C) of relu(x * scale + shift).
        x: (M, C).
        scale: (C,).
        shift: (C,).
        into: (M, C), of the type of `x`.
        sums: (2, C) float64, to which the sums over rows of the masked `d` and of the masked `d` times `x` are added.
    """
    compiled = _compiled(x, scale)
    if compiled is not None:
        compiled.relu_affine_backward(d, x, scale, shift, into, sums)
        return
    masked = (d * (torch.addcmul(shift, x, scale) > 0)).to(scale.dtype)
    if sums is not None:
        sums[0] += masked.sum(0)
        sums[1] += (masked * x).sum(0)
    into.add_(masked * scale)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance over rows, each (C,), of (M, C); in float32 at the least."""
    compiled = _compiled(x)
    if compiled is not None:
        mean, var = compiled.moments(x)
        return mean, var
    var, mean = torch.var_mean(x.to(torch.promote_types(x.dtype, torch.float32)), 0, correction=0)
    return mean, var


def combine(x: Tensor, y: Tensor, factors: Tensor, out: Tensor) -> Tensor:
    """The sum a * x + b * y + c.

    Args:
        x: (M, C).
        y: (M, C).
        factors: a, b and c, (3, C).
        out: (M, C), written and returned; may be `x`.
    """
    compiled = _compiled(x, factors)
    if compiled is None:
        return out.copy_(factors[0] * x + factors[1] * y + factors[2])
    compiled.combine(x, y, factors, out)
    return out


def copy_rows(x: Tensor, out: Tensor) -> Tensor:
    """Copy (M, C) to `out`, of the same type, and return it; rows may lie apart in either."""
    compiled = _compiled(x)
    if compiled is None:
        return out.copy_(x)
    compiled.copy_rows(x, out)
    return out


def _compiled(x: Tensor, scale: Tensor | None = None) -> Any:
    """The compiled operations if they are made for these types and this device."""
    fits = x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16)
    fits = fits and (scale is None or scale.dtype == torch.float32)
    return _library() if fits else None


@functools.cache
def _library() -> Any:
    """The compiled operations, or None where they cannot be had."""
    if os.environ.get("ALOE_KERNELS") == "0":
        return None
    compiler = os.environ.get("CXX") or shutil.which("g++")
    if compiler is None or platform.system() != "Linux":
        log.info("no C++ compiler (g++): a DenseNet is slower on this CPU")
        return None
    processor = platform.machine(), _flags()
    name = f"kernels-{fingerprint(SOURCE.read_text(), torch.__version__, processor)}.so"
    try:
        torch.ops.load_library(cached(name, lambda path: _compile(compiler, path)))  # type: ignore[no-untyped-call]
    except (OSError, subprocess.CalledProcessError, UserError) as error:
        told = getattr(error, "stderr", None) or str(error)
        log.warning("cannot compile %s, a DenseNet is slower on this CPU: %s", SOURCE, told.strip()[:500])
        return None
    return torch.ops.aloe_lightning


def _flags() -> str:
    """What the processor can do, as far as Linux tells."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _compile(compiler: str, path: Path) -> None:
    log.info("compiling %s, once", SOURCE.name)
    home = Path(torch.__file__).parent
    wide = ["-mprefer-vector-width=512"] if platform.machine() == "x86_64" else []
    command = [
        *(compiler, "-O3", "-march=native", *wide, "-fopenmp", "-fPIC", "-shared", "-std=c++20"),
        *(f"-I{home / 'include'}", str(SOURCE), "-o", str(path), f"-L{home / 'lib'}", "-ltorch_cpu", "-lc10"),
    ]
    subprocess.run(command, check=True, capture_output=True, text=True)
