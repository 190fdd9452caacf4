"""Timing: median of several runs with its spread, peak memory, and the peak performance of the machine."""

import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Timing:
    """Wall time of one piece of work.

    Attributes:
        seconds: median.
        spread: half of the range.
        peak_mb: highest memory so far, of the process (CPU) or of the device.
        busy: share of the wall time in which a GPU's kernels ran; None on a CPU.
    """

    seconds: float
    spread: float
    peak_mb: float
    busy: float | None = None


def timed(work: Callable[[], object], repeats: int, device: torch.device, warm_up: bool = True) -> Timing:
    """Time `repeats` runs, after one run to warm up."""
    gpu = device.type == "cuda"
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    if warm_up:
        work()
    times = []
    for _ in range(repeats):
        if gpu:
            torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        if gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    peak = torch.cuda.max_memory_allocated() if gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    busy = busy_share(work) if gpu and warm_up else None
    return Timing(statistics.median(times), (max(times) - min(times)) / 2, peak / 2**20, busy)


def busy_share(work: Callable[[], object]) -> float:
    """Return the share of wall time in which a GPU's kernels run, measured by the profiler over three runs."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(3):
            work()
        torch.cuda.synchronize()
        wall = time.perf_counter() - started
    spans = sorted((e.time_range.start, e.time_range.end) for e in profile.events() if "CUDA" in str(e.device_type))
    busy, last_end = 0.0, float("-inf")
    for start, end in spans:  # kernels of several streams may overlap
        busy += max(0.0, end - max(start, last_end))
        last_end = max(last_end, end)
    return busy / 1e6 / wall


@dataclass(frozen=True)
class Ceilings:
    """Peak performance of a machine: matrix products in FLOP/s by type, memory in bytes/s (read and written)."""

    flops: dict[str, float]
    bytes: float


def ceilings(device: torch.device) -> Ceilings:
    """Measure a large matmul in each type and a large copy."""
    size = 8192 if device.type == "cuda" else 2048
    flops = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        flops[str(dtype).removeprefix("torch.")] = 2 * size**3 / fastest(lambda a=a, b=b: a @ b, device)
    x = torch.randn(64 * 2**20, device=device)
    y = torch.empty_like(x)
    return Ceilings(flops, 2 * x.numel() * x.element_size() / fastest(lambda: y.copy_(x), device))


def fastest(work: Callable[[], Tensor], device: torch.device) -> float:
    """Return the seconds of the fastest of five medians of two runs."""
    return min(timed(work, 2, device).seconds for _ in range(5))
