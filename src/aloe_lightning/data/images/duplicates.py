"""Detection of outliers that also occur in other sets."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aloe_lightning.data.images.source import CHUNK, ExcludingSource, ImageSource, chunks
from aloe_lightning.runtime.progress import track
from aloe_lightning.storage.cache import cached, content_hash, read_cached

BANDS = 4
"""By the pigeonhole principle two hashes that differ in at most 3 of 64 bits agree in one of 4 bands of 16 bits."""
MAX_DISTANCE = BANDS - 1
"""Largest Hamming distance of the search."""
MAX_IMAGES_OF_DIGEST = 100_000


@dataclass(frozen=True)
class Duplicates:
    """Outliers that also occur in other sets.

    Attributes:
        indices: sorted indices of these outliers.
        count_by_set: their number in each of the other sets; an outlier in several sets is counted in each.
    """

    indices: NDArray[np.int64]
    count_by_set: dict[str, int]

    def __str__(self) -> str:
        counts = ", ".join(f"{count:,} in {name}" for name, count in self.count_by_set.items() if count)
        return f"{len(self.indices):,} ({counts})" if counts else "none"


def exclude_duplicates(
    outliers: ImageSource, others: Mapping[str, ImageSource], distance: int | None = None
) -> tuple[ImageSource, Duplicates]:
    """Return the outliers that occur in no other set, and the duplicates; see `find_duplicates`."""
    duplicates = find_duplicates(outliers, others, distance)
    return (ExcludingSource(outliers, duplicates.indices) if len(duplicates.indices) else outliers), duplicates


def find_duplicates(
    outliers: ImageSource, others: Mapping[str, ImageSource], distance: int | None = None
) -> Duplicates:
    """Search the outliers for images of the other sets; the cache keeps the result.

    Args:
        outliers: images to search.
        others: images to search for, by name.
        distance: None for equal pixels only; otherwise also images whose perceptual hashes differ in at most this many
            of their 64 bits, 0 to 3. Since half the bits are set, distances are almost always even, so that 2 and 3
            find the same.

    Raises:
        ValueError: if the distance is out of range.
    """
    if distance is not None and not 0 <= distance <= MAX_DISTANCE:
        raise ValueError(f"distance must be in 0..{MAX_DISTANCE}, got {distance}")
    exact = {name: set_hashes(images) for name, images in others.items()}

    def search() -> Duplicates:
        known = {name: np.unique(hashes) for name, hashes in exact.items()}
        similar = {} if distance is None else {name: PerceptualIndex(images) for name, images in others.items()}
        count_by_set, indices = dict.fromkeys(others, 0), [np.zeros(0, np.int64)]
        for number, chunk in enumerate(track(chunks(outliers), len(outliers), "searching duplicates", step=CHUNK)):
            hashes, perceptual = exact_hashes(chunk), perceptual_hashes(chunk) if similar else None
            in_any_set = np.zeros(len(chunk), bool)
            for name in others:
                in_set = np.isin(hashes, known[name])
                if perceptual is not None and distance is not None:
                    in_set |= similar[name].near(perceptual, distance)
                count_by_set[name] += int(in_set.sum())
                in_any_set |= in_set
            indices.append(np.flatnonzero(in_any_set) + number * CHUNK)
        return Duplicates(np.concatenate(indices), count_by_set)

    if outliers.identity is None:
        return search()

    def make(part: Path) -> None:
        duplicates = search()
        part.write_text(json.dumps({"indices": duplicates.indices.tolist(), "found_in": duplicates.count_by_set}))

    hashes_of_sets = [(name, hashlib.sha256(hashes.tobytes()).hexdigest()) for name, hashes in exact.items()]
    name = content_hash("duplicates", outliers.identity, hashes_of_sets, distance)

    def read(file: Path) -> Duplicates:
        content = json.loads(file.read_text())
        indices, found_in = np.array(content["indices"], np.int64), content["found_in"]
        if indices.ndim != 1 or not all(0 <= index < len(outliers) for index in indices.tolist()):
            raise ValueError("no indices of outliers")
        return Duplicates(indices, {str(name): int(count) for name, count in found_in.items()})

    return read_cached(cached(f"duplicates/{name}.json", make), read)


def exact_hashes(images: Tensor) -> NDArray[np.uint64]:
    """Return a 64-bit hash (n,) of each image, uint8 (n, 3, 32, 32): in practice equal for equal pixels only."""
    rows = images.contiguous().numpy().reshape(len(images), -1)
    return np.frombuffer(b"".join(hashlib.blake2b(row.data, digest_size=8).digest() for row in rows), np.uint64)


def set_hashes(images: ImageSource) -> NDArray[np.uint64]:
    """Return the exact hashes of a whole set (N,), from the cache if the set has an identity."""

    def compute() -> NDArray[np.uint64]:
        return np.concatenate([np.zeros(0, np.uint64), *(exact_hashes(chunk) for chunk in chunks(images))])

    def make(part: Path) -> None:
        with part.open("wb") as stream:
            np.save(stream, compute())

    if images.identity is None:
        return compute()

    def read(file: Path) -> NDArray[np.uint64]:
        hashes: NDArray[np.uint64] = np.load(file, allow_pickle=False)
        if hashes.dtype != np.uint64 or hashes.shape != (len(images),):
            raise ValueError(f"{hashes.dtype} {hashes.shape}")
        return hashes

    return read_cached(cached(f"duplicates/{content_hash('exact', images.identity)}.npy", make), read)


def digest_of(images: ImageSource) -> str:
    """Return an 8-digit hexadecimal hash of the set's length and of up to 100,000 evenly spaced images."""
    count = min(len(images), MAX_IMAGES_OF_DIGEST)
    indices = torch.linspace(0, len(images) - 1, count, dtype=torch.float64).round().long()
    hashes = b"".join(exact_hashes(images.take(chunk)).tobytes() for chunk in torch.split(indices, CHUNK))
    return hashlib.sha256(len(images).to_bytes(8, "big") + hashes).hexdigest()[:8]


def perceptual_hashes(images: Tensor) -> NDArray[np.uint64]:
    """Return a 64-bit perceptual hash (n,) of each image, uint8 (n, 3, 32, 32).

    It changes little with brightness, contrast and compression. Bit i is set if the i-th of the 8 x 8 lowest DCT
    coefficients of the grey image exceeds their median (pHash).
    """
    from scipy.fft import dctn

    red, green, blue = images.numpy().transpose(1, 0, 2, 3).astype(np.float32)
    spectra = dctn(0.299 * red + 0.587 * green + 0.114 * blue, axes=(1, 2), norm="ortho")[:, :8, :8].reshape(-1, 64)
    bits = spectra > np.median(spectra, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(np.uint64).ravel()


class PerceptualIndex:
    """Index of the perceptual hashes of a set for Hamming search (multi-index hashing)."""

    def __init__(self, images: ImageSource) -> None:
        hashes = np.unique(np.concatenate([np.zeros(0, np.uint64), *map(perceptual_hashes, chunks(images))]))
        self.by_band = []
        for band in range(BANDS):
            keys = _band(hashes, band)
            order = np.argsort(keys, kind="stable")
            self.by_band.append((keys[order], hashes[order]))

    def near(self, hashes: NDArray[np.uint64], distance: int) -> NDArray[np.bool_]:
        """Return, for each hash (n,), True if the set has one at Hamming distance <= `distance` (<= MAX_DISTANCE)."""
        is_near = np.zeros(len(hashes), bool)
        for band, (keys, sorted_hashes) in enumerate(self.by_band):
            query_keys = _band(hashes, band)
            first, last = np.searchsorted(keys, query_keys, "left"), np.searchsorted(keys, query_keys, "right")
            counts = last - first
            queries = np.repeat(np.arange(len(hashes)), counts)
            # Positions first[i], first[i] + 1, ... last[i] - 1 for each i, concatenated.
            starts = np.repeat(first - np.cumsum(counts) + counts, counts)
            candidates = sorted_hashes[np.arange(counts.sum()) + starts]
            differing_bits = np.bitwise_count(hashes[queries] ^ candidates)
            is_near[queries[differing_bits <= distance]] = True
        return is_near


def _band(hashes: NDArray[np.uint64], band: int) -> NDArray[np.uint64]:
    return (hashes >> np.uint64(16 * band)) & np.uint64(0xFFFF)
