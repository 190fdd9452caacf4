"""Hardware settings: memory that stays with the process, float32 precision, compilation."""

import ctypes
import logging
import platform
from typing import Literal

import torch
from torch import nn

Compile = Literal["auto", "off", "graphs", "default", "reduce-overhead", "max-autotune"]

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of glibc's malloc.h
VARIANTS = 32
"""Largest number of compiled variants of a net: training and frozen, with and without gradients, by batch size."""

log = logging.getLogger(__name__)


def keep_freed_memory() -> bool:
    """Let glibc keep freed large blocks, because the next step of a training allocates the same sizes again.

    By default they return to the operating system, which clears every page again; that takes half of the time of a
    DenseNet step in float32 on two cores.

    Returns:
        True if it was possible (on Linux with glibc).
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    options = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 64 * 2**20}
    return all([libc.mallopt(option, value) == 1 for option, value in options.items()])


def prepare_process(device: torch.device, tf32: bool) -> None:
    """Apply the settings that hold for the whole process.

    Args:
        device: the computing device.
        tf32: let a GPU multiply float32 numbers in 19 bits. PyTorch's default does so in convolutions.
    """
    if device.type == "cpu":
        keep_freed_memory()
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32


def compile_net(net: nn.Module, how: Compile, device: torch.device) -> bool:
    """Compile a net in place, at its first use of each kind; its parameters and its state dict stay as they are.

    Args:
        net: net whose `__call__` is compiled.
        how: mode of `torch.compile`; `auto` is `default` on a GPU and `off` elsewhere.
        device: device of the net.

    Returns:
        True if it will be compiled.
    """
    mode = ("default" if device.type == "cuda" else "off") if how == "auto" else how
    if mode == "off":
        return False
    import torch._dynamo  # takes a second, and is needed only here

    torch._dynamo.config.recompile_limit = VARIANTS
    torch._dynamo.config.suppress_errors = how == "auto"  # not requested: continue without, with a warning
    log.info("compiling the net (%s): the first steps take a minute or two", mode)
    net.compile(mode=None if mode == "default" else mode)
    return True
