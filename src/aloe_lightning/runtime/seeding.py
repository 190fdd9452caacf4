"""Seeds as functions of a key: a draw is the same whatever ran before it, in any process."""

import zlib

import numpy as np
import torch


def seed_of(*key: int | str) -> int:
    """Return a 63-bit seed for a key such as (seed, epoch, step, process); different keys give unrelated seeds."""
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(*key: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator on `device` seeded by `seed_of(*key)`."""
    return torch.Generator(device).manual_seed(seed_of(*key))
