"""The processes that train and evaluate together."""

from torch.distributed import get_rank, get_world_size, is_available, is_initialized


def rank_and_world_size() -> tuple[int, int]:
    """Return the rank of this process and the number of processes."""
    return (get_rank(), get_world_size()) if is_available() and is_initialized() else (0, 1)
