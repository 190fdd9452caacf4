"""The machine and the packages that a result was made with."""

import platform
import sys
from importlib.metadata import version
from typing import Any

import torch

from aloe_lightning import __version__
from aloe_lightning.runtime.processor import processor_name

PACKAGES = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "omegaconf", "numpy")


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
        "packages": package_versions(*PACKAGES),
    }


def package_versions(*names: str) -> dict[str, str]:
    """Return the version of the code that runs, which an installation of another copy does not change, and others'."""
    return {"aloe-lightning": __version__, **{name: version(name) for name in names}}
