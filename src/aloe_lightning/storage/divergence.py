"""The end of a training whose loss or weights are not finite: what is needed to study it is saved."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from aloe_lightning.errors import UserError
from aloe_lightning.storage.files import atomic_write

FILE = "diverged.pt"
HINT = "lower optim.lr, limit the gradients with trainer.gradient_clip_val=1, or set trainer.precision=32-true"


def stop_diverged(net: nn.Module, loss: Tensor, batch: Mapping[str, Any], step: int, folder: Path) -> NoReturn:
    """Save the batch and the weights of a step whose loss is not finite, and raise a UserError.

    Args:
        net: the net in training.
        loss: the loss, NaN or infinite.
        batch: what is saved of the batch of the step; its images are augmented, but not perturbed.
        step: number of steps done before.
        folder: folder of `diverged.pt`, which `torch.load` reads.
    """
    weights = {name: tensor.detach().cpu() for name, tensor in net.state_dict().items()}
    cause = "although the weights are finite" if has_finite_weights(net) else "after an earlier step made weights so"
    file = folder / FILE
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as part:
        content = {name: value.cpu() if isinstance(value, Tensor) else value for name, value in batch.items()}
        torch.save({"step": step, "loss": loss.item(), "weights": weights, **content}, part)
    raise UserError(
        f"training diverged: the loss is {loss.item()} at step {step}, {cause}; {HINT}; the batch and the weights are "
        f"in {file.absolute()}"
    )


def require_finite_weights(net: nn.Module) -> None:
    """Raise a UserError if a weight or a running statistic is NaN or infinite."""
    if not has_finite_weights(net):
        raise UserError(f"training diverged: it ended with weights that are not finite; {HINT}")


def has_finite_weights(net: nn.Module) -> bool:
    """Return whether all weights and running statistics are finite numbers."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in net.state_dict().values())
