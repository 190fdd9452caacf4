"""CUDA graphs of a net's passes in a training: one launch for all kernels of a forward or a backward pass.

The kernels of a small batch take less time than their launches, one by one, from Python.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from aloe_lightning.errors import UserError
from aloe_lightning.nets import Classifier
from aloe_lightning.runtime.hardware import Compile, compile_net

EAGER_PASSES = 3
"""Passes of one kind before its capture: the last batch of an epoch, which is smaller, is not worth one."""
MOST_GRAPHS = 4

log = logging.getLogger(__name__)


@dataclass
class CapturedPass:
    """A forward pass and its backward pass as CUDA graphs, for batches of one shape in one mode of the net.

    Attributes:
        run: images -> logits in memory that the next call overwrites.
        calls: number of calls so far.
        open: number of the call whose backward pass is still to come; None if there is none.
    """

    run: Callable[[Tensor], Tensor]
    calls: int = 0
    open: int | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """Return logits whose backward pass may be run once, before the next call.

        Raises:
            RuntimeError: in the backward pass, if it is the second one or comes too late: its memory was used again.
        """
        self.calls += 1
        call = self.open = self.calls
        logits = self.run(images)

        def close(_: Tensor) -> None:
            if self.open != call:
                raise RuntimeError("a second backward pass through a CUDA graph of the net: set compile=off")
            self.open = None

        logits.register_hook(close)  # type: ignore[no-untyped-call]
        return logits.clone()


class GraphedForward:
    """The forward pass of a net, replayed from CUDA graphs where its gradients are needed; the same numbers.

    A pass runs kernel by kernel in the first batches, in a batch of another shape, and while an earlier forward pass of
    its kind waits for its backward pass.

    Args:
        net: a net on a GPU that never waits for the device and has no randomness.
    """

    def __init__(self, net: nn.Module) -> None:
        self.net, self.eager = net, net.forward
        self.parameter = next(net.parameters())
        self.norm = next((m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)), None)
        self.seen: dict[Any, int] = {}
        self.captured: dict[Any, CapturedPass] = {}

    def __call__(self, images: Tensor) -> Tensor:
        """Return logits (N, K) of images (N, 3, H, W)."""
        if not torch.is_grad_enabled() or not (images.requires_grad or self.parameter.requires_grad):
            return self._eagerly(images)
        kind = self._kind(images)
        captured = self.captured.get(kind)
        if captured is not None:
            return captured(images) if captured.open is None else self._eagerly(images)
        self.seen[kind] = self.seen.get(kind, 0) + 1
        if self.seen[kind] == EAGER_PASSES + 1 and len(self.captured) < MOST_GRAPHS:
            run = self._capture(images)
            if run is not None:
                self.captured[kind] = CapturedPass(run)
                return self.captured[kind](images)
        return self._eagerly(images)

    def close(self) -> None:
        """Forget the forward passes whose backward pass never came."""
        for captured in self.captured.values():
            captured.open = None

    def _kind(self, images: Tensor) -> tuple[Any, ...]:
        norm, autocast = self.norm, torch.is_autocast_enabled("cuda")
        mode = (self.net.training, norm is not None and (norm.training, norm.track_running_stats))
        gradients = images.requires_grad, self.parameter.requires_grad
        return images.shape, images.dtype, mode, gradients, autocast and torch.get_autocast_dtype("cuda")

    def _eagerly(self, images: Tensor) -> Tensor:
        logits: Tensor = self.eager(images)
        return logits

    def _capture(self, images: Tensor) -> Callable[[Tensor], Tensor] | None:
        """Capture both passes, and leave the running statistics as they are; None if CUDA refuses.

        It does while the gradient of an earlier pass through the same parameters is still to come.
        """
        stream = torch.cuda.current_stream()
        buffers = [buffer.clone() for buffer in self.net.buffers()]
        sample = images.detach().clone().requires_grad_(images.requires_grad)
        autocast = torch.is_autocast_enabled("cuda")
        with torch.autocast("cuda", torch.get_autocast_dtype("cuda"), enabled=autocast, cache_enabled=False):
            try:
                run = torch.cuda.make_graphed_callables(_Pass(self.net, self.eager), (sample,))
            except RuntimeError as error:
                torch.cuda.set_stream(stream)  # a failed capture leaves its own stream as the current one
                log.warning("a pass of the net runs without a CUDA graph: %s", str(error).splitlines()[0])
                run = None
        for buffer, value in zip(self.net.buffers(), buffers, strict=True):
            buffer.copy_(value)
        return run  # type: ignore[return-value, unused-ignore]


class _Pass(nn.Module):
    """The eager forward pass of a net as a module with the net's parameters."""

    def __init__(self, net: nn.Module, eager: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.eager = net, eager

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, K) of images (N, 3, H, W)."""
        return self.eager(images)


class CudaGraphs(Callback):
    """Replays the passes of the net from CUDA graphs during a training."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace the forward pass of the net."""
        net: Any = pl_module.net
        net.forward = GraphedForward(net)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start a step without passes left open by the last one."""
        net: Any = pl_module.net
        net.forward.close()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the net its own forward pass again, and free the memory of the graphs."""
        net: Any = pl_module.net
        vars(net).pop("forward", None)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the net its own forward pass again."""
        self.on_train_end(trainer, pl_module)


def obstacle_to_graphs(net: nn.Module, trainer: Trainer) -> str | None:
    """Return the reason why the passes of a training cannot be CUDA graphs; None if they can."""
    if trainer.strategy.root_device.type != "cuda":
        return "the training does not run on a GPU"
    if trainer.world_size > 1:
        return "gradients are exchanged between devices during a backward pass"
    if trainer.accumulate_grad_batches > 1:
        return "accumulated gradients would lie in memory that is used again"
    if not (isinstance(net, Classifier) and net.never_waits):
        return f"{type(net).__name__} may wait for the device"
    if any(isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0 for module in net.modules()):
        return "the net has dropout"
    return None


def prepare_passes(net: nn.Module, how: Compile, trainer: Trainer) -> None:
    """Make the passes of a net faster, as the config's `compile` says.

    Raises:
        UserError: if `graphs` is asked for and impossible.
    """
    obstacle = obstacle_to_graphs(net, trainer)
    if how == "graphs" and obstacle:
        raise UserError(f"compile=graphs is not possible here: {obstacle}")
    if how == "graphs" or (how == "auto" and not obstacle):
        trainer.callbacks.append(CudaGraphs())  # type: ignore[attr-defined]
    else:
        compile_net(net, how, trainer.strategy.root_device)
