"""The processes that train and evaluate together: the first one decides, the others follow."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn
from torch.distributed import (
    ReduceOp,
    all_reduce,
    broadcast,
    broadcast_object_list,
    get_rank,
    get_world_size,
    is_available,
    is_initialized,
)

from aloe_lightning.errors import UserError

T = TypeVar("T")


def rank_and_world_size() -> tuple[int, int]:
    """Return the rank of this process and the number of processes."""
    return (get_rank(), get_world_size()) if is_available() and is_initialized() else (0, 1)


def on_first_process(decide: Callable[[], T]) -> T:
    """Call a function on the first process only, and return its result, or raise its error, on all of them."""
    if rank_and_world_size()[1] == 1:
        return decide()
    outcome: list[Any] = [None, None]
    if get_rank() == 0:
        try:
            outcome[0] = decide()
        except Exception as error:
            outcome[1] = error
    broadcast_object_list(outcome, src=0)
    if outcome[1] is not None:
        raise outcome[1]
    result: T = outcome[0]
    return result


def largest(value: int, device: torch.device) -> int:
    """Return the largest value of all processes."""
    if rank_and_world_size()[1] == 1:
        return value
    shared = torch.tensor(value, device=device)
    all_reduce(shared, op=ReduceOp.MAX)
    return int(shared)


def share_state(net: nn.Module) -> None:
    """Give every process the parameters and buffers of the first one.

    Distributed training keeps parameters equal, but each process has running statistics of its own.
    """
    if rank_and_world_size()[1] > 1:
        for tensor in net.state_dict().values():
            broadcast(tensor, src=0)


def share_of(images: int, kind: str) -> int:
    """Return how many images of a batch each process takes.

    Raises:
        UserError: if the batch cannot be divided evenly.
    """
    world_size = rank_and_world_size()[1]
    if images % world_size:
        raise UserError(
            f"batch.{kind}={images} is the batch of all processes together: not divisible by their number, {world_size}"
        )
    return images // world_size
