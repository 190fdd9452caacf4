"""What makes the machine's own settings fit: memory that stays with the process, float32 products, compilation."""

import ctypes
import logging
import platform
from typing import Literal

import torch
from torch import nn

Compile = Literal["auto", "off", "default", "reduce-overhead", "max-autotune"]

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of glibc's malloc.h
VARIANTS = 32
"""Forms of a net that are compiled: training and frozen, with and without gradients, by batch size."""

log = logging.getLogger(__name__)


def keep_freed_memory() -> bool:
    """Let glibc keep large blocks that were freed, for the next step of a training asks for the same again.

    By default they go back to the operating system, which clears every page anew: half of the time of a DenseNet's step
    in float32 on two cores. Returns whether it could be done (on Linux with glibc).
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    wanted = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 64 * 2**20}
    return all([libc.mallopt(option, value) == 1 for option, value in wanted.items()])


def prepare(device: torch.device, tf32: bool) -> None:
    """Set what holds for the whole process.

    Args:
        device: the work is done on.
        tf32: let a GPU multiply float32 numbers in 19 bits. PyTorch does so in convolutions unless told otherwise.
    """
    if device.type == "cpu":
        keep_freed_memory()
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32


def compile_net(net: nn.Module, how: Compile, device: torch.device) -> bool:
    """Compile a net in place, for each use when it first comes; its parameters and its state dict stay as they are.

    Args:
        net: whose `__call__` is compiled.
        how: a mode of `torch.compile`; `auto` is `default` on a GPU and `off` elsewhere.
        device: the net will be on.

    Returns:
        Whether it will be compiled.
    """
    mode = ("default" if device.type == "cuda" else "off") if how == "auto" else how
    if mode == "off":
        return False
    import torch._dynamo  # takes a second, and only here it is needed

    torch._dynamo.config.recompile_limit = VARIANTS
    torch._dynamo.config.suppress_errors = how == "auto"  # nobody asked for it: go on without, and say so
    log.info("compiling the net (%s): the first steps take a minute or two", mode)
    net.compile(mode=None if mode == "default" else mode)
    return True
