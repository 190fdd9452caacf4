"""Compilation of the C++ operations in `native/`, once (about 20 seconds); the result stays in the cache.

`ALOE_KERNELS=0` disables them; `CXX` names another compiler than g++.
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
from torch import Tensor, nn

from aloe_lightning.errors import UserError
from aloe_lightning.kernels import reference
from aloe_lightning.kernels.features import feature_dtype
from aloe_lightning.runtime.processor import processor_flags
from aloe_lightning.storage.cache import cached, content_hash

SOURCES = Path(__file__).with_name("native")
TYPES = (torch.float32, torch.float64, torch.bfloat16)
log = logging.getLogger(__name__)


def has_kernels(norm: nn.BatchNorm2d) -> bool:
    """Return whether compiled kernels exist for the device and type of a BatchNorm's features; may compile them."""
    return operations(norm.weight.device, feature_dtype(norm)) is not reference


def operations(device: torch.device, dtype: torch.dtype) -> Any:
    """Return the operations on features: the compiled ones where they exist for the device and type, or `reference`."""
    compiled = library() if device.type == "cpu" and dtype in TYPES else None
    return reference if compiled is None else compiled


def pack_weight_backward(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Pack the transposed kernel of a convolution, weight (O, C, k, k), for `norm_conv_backward`."""
    packed: Tensor = operations(weight.device, dtype).pack_weight(weight.transpose(0, 1).flip(2, 3), dtype)
    return packed


@functools.cache
def library() -> Any:
    """Return the compiled operations, or None where they are not available."""
    if os.environ.get("ALOE_KERNELS") == "0":
        return None
    compiler = os.environ.get("CXX") or shutil.which("g++")
    if compiler is None or platform.system() != "Linux":
        log.info("no C++ compiler (g++): a DenseNet is slower on this CPU")
        return None
    processor = platform.machine(), processor_flags()
    texts = [path.read_text() for path in sorted(SOURCES.iterdir())]
    name = f"kernels-{content_hash(texts, torch.__version__, processor)}.so"
    try:
        torch.ops.load_library(cached(name, lambda path: _compile(compiler, path)))  # type: ignore[no-untyped-call]
    except (OSError, subprocess.CalledProcessError, UserError) as error:
        message = getattr(error, "stderr", None) or str(error)
        log.warning("cannot compile %s, a DenseNet is slower on this CPU: %s", SOURCES, message.strip()[:500])
        return None
    return torch.ops.aloe_lightning


def _compile(compiler: str, path: Path) -> None:
    log.info("compiling the DenseNet's operations for this CPU, once (about 20 seconds)")
    torch_home = Path(torch.__file__).parent
    flags = ["-O3", "-march=native", "-fno-strict-aliasing", "-fopenmp", "-fPIC", "-shared", "-std=c++20"]
    if platform.machine() == "x86_64":
        flags.append("-mprefer-vector-width=512")
    source = [f"-I{torch_home / 'include'}", str(SOURCES / "bindings.cpp"), "-o", str(path)]
    libraries = [f"-L{torch_home / 'lib'}", "-ltorch_cpu", "-lc10"]
    subprocess.run([compiler, *flags, *source, *libraries], check=True, capture_output=True, text=True)
