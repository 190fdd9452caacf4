"""Abilities of this machine's processor, known without importing torch."""

from pathlib import Path

from aloe_lightning.runtime.devices import gpu_count

CPUINFO = Path("/proc/cpuinfo")


def processor_flags() -> str:
    """Return the line of /proc/cpuinfo that lists the processor's instructions; "" where there is none."""
    return _line("flags", "Features")


def processor_name() -> str:
    """Return the name of the processor's model; "" where the system does not tell it."""
    return _line("model name").partition(": ")[2]


def fast_precision() -> str:
    """Return `bf16-mixed` where bfloat16 is known to be faster: on a GPU and on AMD with AVX-512 bf16; else `32-true`.

    On Intel's processors with AVX-512 bf16 the kernels' ALOE step takes 5.4 s in bfloat16 and 3.9 s in float32. Without
    such instructions bfloat16 convolutions are emulated, forty times slower than float32.
    """
    fast = "AuthenticAMD" in _line("vendor_id") and "avx512_bf16" in processor_flags().split()
    return "bf16-mixed" if fast or gpu_count() else "32-true"


def _line(*names: str) -> str:
    lines = CPUINFO.read_text().splitlines() if CPUINFO.is_file() else []
    return next((line for line in lines if line.startswith(names)), "")
