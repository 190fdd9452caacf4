"""The machine and the packages that a result was made with."""

import platform
import sys
from importlib.metadata import version
from typing import Any

import torch

from aloe_lightning.runtime.processor import processor_name

PACKAGES = ("aloe-lightning", "torch", "torchvision", "pytorch-lightning", "hydra-core", "omegaconf", "numpy")


def environment_of(device: torch.device) -> dict[str, Any]:
    """Return command, Python, platform, processor, threads, device and package versions of this process.

    The number of threads decides how sums are rounded.
    """
    cpu = f"{torch.get_num_threads()} CPU threads"
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu,
        "packages": {name: version(name) for name in PACKAGES},
    }
