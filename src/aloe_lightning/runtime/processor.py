"""Abilities of this machine's processor, known without importing torch."""

from pathlib import Path


def processor_flags() -> str:
    """Return the line of /proc/cpuinfo that lists the processor's instructions; "" where there is none."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def fast_precision() -> str:
    """Return `bf16-mixed` where there is a GPU or a processor that multiplies bfloat16 numbers, else `32-true`.

    Without such instructions bfloat16 convolutions are emulated, forty times slower than float32.
    """
    flags = processor_flags().split()
    multiplies = {"avx512_bf16", "amx_bf16", "bf16"} & set(flags)
    return "bf16-mixed" if multiplies or Path("/proc/driver/nvidia/version").is_file() else "32-true"
