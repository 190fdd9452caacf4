"""Seeds as functions of what is drawn: the same draw comes out whatever ran before, in whatever process."""

import zlib

import numpy as np
import torch


def seed_of(*key: int | str) -> int:
    """A 63-bit seed for a key such as (seed, epoch, step, process); unlike keys give unrelated seeds."""
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(*key: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on `device` seeded by `seed_of(*key)`."""
    return torch.Generator(device).manual_seed(seed_of(*key))
