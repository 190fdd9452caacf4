"""`trainer.precision=auto`: the faster of float32 and bfloat16 for a net on this machine, measured once."""

import copy
import logging
import time
from typing import Any

import torch
from torch import Tensor, nn

from aloe_lightning.runtime.devices import assigned_devices
from aloe_lightning.runtime.distributed import on_first_process
from aloe_lightning.runtime.processor import processor_flags
from aloe_lightning.storage.files import read_json, write_json
from aloe_lightning.storage.models import TrainedModel

FLOAT32, BFLOAT16 = "32-true", "bf16-mixed"
IMAGES = 16
"""Images of a measurement on a CPU. A GPU gets a whole batch: with few images it only waits for the host."""
SECONDS = 0.4
"""Length of each of the two measurements."""
GAIN = 1.1
"""How many times faster bfloat16 has to be: float32 is the more exact one, and timings of a busy machine vary."""

log = logging.getLogger(__name__)


def resolved_precision(config: dict[str, Any], model: TrainedModel, net: nn.Module, size: int) -> str:
    """Return Lightning's name of the precision of a training; for `auto` measure it, or read what was measured before.

    The decision is stored next to the state of the training, so that an interrupted one keeps its arithmetic. The net
    is stored under `auto`, whatever the decision: a cell is found again on a machine that would decide otherwise.
    """
    precision: str = config["trainer"]["precision"]
    if precision != "auto":
        return precision

    def decide() -> str:
        if config["checkpoint"] is not None:
            return FLOAT32  # nothing is trained
        stored = {} if config["recompute"] == "training" else read_json(model.precision, ("precision", "reason"))
        if stored.get("precision") not in (FLOAT32, BFLOAT16):
            device = _device(config["trainer"])
            images = IMAGES if device.type == "cpu" else sum(config["batch"].values())
            stored = measured_precision(net, (images, 3, size, size), device)
            model.folder.mkdir(parents=True, exist_ok=True)
            write_json(model.precision, stored)
        log.info("precision=auto is %s: %s", stored["precision"], stored["reason"])
        return str(stored["precision"])

    return on_first_process(decide)


def _device(trainer: dict[str, Any]) -> torch.device:
    """Return the device that Lightning will choose."""
    if trainer["accelerator"] not in ("auto", "gpu", "cuda") or not torch.cuda.is_available():
        return torch.device("cpu")
    devices = assigned_devices(trainer["devices"])
    return torch.device("cuda", devices[0] if isinstance(devices, list) else 0)


def measured_precision(net: nn.Module, shape: tuple[int, ...], device: torch.device) -> dict[str, Any]:
    """Measure forward and backward passes of a copy of a net in training mode, on a processor that knows bfloat16.

    Args:
        net: images -> logits (N, K).
        shape: shape of the images (N, 3, H, W).
        device: computing device.

    Returns:
        `precision`, Lightning's name of the faster arithmetic, and the `reason` with the shortest times.
    """
    if device.type == "cpu" and "bf16" not in processor_flags():
        return {"precision": FLOAT32, "reason": "this processor has no bfloat16 instructions, which are slow without"}
    images = torch.linspace(0, 1, torch.Size(shape).numel(), device=device).reshape(shape)
    with torch.random.fork_rng(enabled=device.type == "cpu"):
        trial = copy.deepcopy(net).to(device).train()
        seconds = {name: _seconds(trial, images, name == "bfloat16") for name in ("float32", "bfloat16")}
    times = ", ".join(f"{1000 * value:.1f} ms in {name}" for name, value in seconds.items())
    return {
        "precision": BFLOAT16 if seconds["bfloat16"] * GAIN < seconds["float32"] else FLOAT32,
        "reason": f"forward and backward of {shape[0]} images take {times}",
    }


def _seconds(net: nn.Module, images: Tensor, bfloat16: bool) -> float:
    """Return the shortest time of a pass, after a first one that prepares kernels."""
    times, begun = list[float](), time.perf_counter()
    while len(times) < 2 or (time.perf_counter() - begun < SECONDS and len(times) < 20):
        started = time.perf_counter()
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bfloat16):
            loss = net(images).float().square().mean()
        loss.backward()
        loss.item()  # waits for the device
        times.append(time.perf_counter() - started)
    return min(times[1:])
