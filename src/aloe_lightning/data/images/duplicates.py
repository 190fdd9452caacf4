"""Outliers that are also test images (or training images in distribution) must not be trained on: find them."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dctn
from torch import Tensor

from aloe_lightning.data.images.source import CHUNK, ExcludingSource, ImageSource, chunks
from aloe_lightning.runtime.progress import track
from aloe_lightning.storage.cache import cached, fingerprint

BANDS = 4
DIGESTED = 100_000
MAX_DISTANCE = BANDS - 1
"""Largest Hamming distance that is searched for: two hashes of 64 bits that differ in so few agree in a 16-bit band."""


@dataclass(frozen=True)
class Duplicates:
    """Which outliers are also elsewhere.

    Attributes:
        indices: of these outliers, sorted.
        found_in: how many of them are in each of the other sets; one that is in several counts in each.
    """

    indices: NDArray[np.int64]
    found_in: dict[str, int]

    def __str__(self) -> str:
        where = ", ".join(f"{count:,} in {name}" for name, count in self.found_in.items() if count)
        return f"{len(self.indices):,} ({where})" if where else "none"


def without_duplicates(
    outliers: ImageSource, others: Mapping[str, ImageSource], distance: int | None = None
) -> tuple[ImageSource, Duplicates]:
    """The outliers that are in none of the other sets, and which those were that are."""
    duplicates = find_duplicates(outliers, others, distance)
    return (ExcludingSource(outliers, duplicates.indices) if len(duplicates.indices) else outliers), duplicates


def find_duplicates(
    outliers: ImageSource, others: Mapping[str, ImageSource], distance: int | None = None
) -> Duplicates:
    """Search the outliers for images of the other sets; what was searched once is remembered in the cache.

    Args:
        outliers: where to search.
        others: what to search for, by name.
        distance: None for equal pixels only; else also images whose perceptual hashes differ in at most so many of
            their 64 bits, 0 to 3. Half the bits of a hash are set, so that the number that differ is even nearly
            always: 2 is what 3 finds.
    """
    if distance is not None and not 0 <= distance <= MAX_DISTANCE:
        raise ValueError(f"distance must be in 0..{MAX_DISTANCE}, got {distance}")
    known = {name: hashes_of(images) for name, images in others.items()}
    if outliers.identity is None:
        return _search(outliers, others, known, distance)
    searched = [(name, hashlib.sha256(hashes.tobytes()).hexdigest()) for name, hashes in known.items()]

    def make(part: Path) -> None:
        found = _search(outliers, others, known, distance)
        part.write_text(json.dumps({"indices": found.indices.tolist(), "found_in": found.found_in}))

    name = fingerprint("duplicates", outliers.identity, searched, distance)
    content = json.loads(cached(f"duplicates/{name}.json", make).read_text())
    return Duplicates(np.array(content["indices"], np.int64), content["found_in"])


def _search(
    outliers: ImageSource,
    others: Mapping[str, ImageSource],
    known: Mapping[str, NDArray[np.uint64]],
    distance: int | None,
) -> Duplicates:
    exact = {name: np.unique(hashes) for name, hashes in known.items()}
    similar = {} if distance is None else {name: PerceptualIndex(images) for name, images in others.items()}
    found_in: Counter[str] = Counter(dict.fromkeys(others, 0))
    indices = []
    for number, part in enumerate(track(chunks(outliers), len(outliers), "searching duplicates", step=CHUNK)):
        hashes = exact_hashes(part)
        looks = perceptual_hashes(part) if similar else None
        anywhere = np.zeros(len(part), bool)
        for name in others:
            here = np.isin(hashes, exact[name])
            if looks is not None and distance is not None:
                here |= similar[name].near(looks, distance)
            found_in[name] += int(here.sum())
            anywhere |= here
        indices.append(np.flatnonzero(anywhere) + number * CHUNK)
    return Duplicates(np.concatenate(indices) if indices else np.zeros(0, np.int64), dict(found_in))


def exact_hashes(images: Tensor) -> NDArray[np.uint64]:
    """Images uint8 (n, 3, 32, 32) -> 64 bits each (n,), equal for equal pixels and, for all purposes, only for them."""
    rows = images.contiguous().numpy().reshape(len(images), -1)
    return np.frombuffer(b"".join(hashlib.blake2b(row.data, digest_size=8).digest() for row in rows), np.uint64)


def hashes_of(images: ImageSource) -> NDArray[np.uint64]:
    """Exact hashes of a whole set (N,), remembered in the cache if the set has an identity."""

    def compute() -> NDArray[np.uint64]:
        return np.concatenate([np.zeros(0, np.uint64), *(exact_hashes(part) for part in chunks(images))])

    def make(part: Path) -> None:
        with part.open("wb") as stream:
            np.save(stream, compute())

    if images.identity is None:
        return compute()
    hashes: NDArray[np.uint64] = np.load(cached(f"duplicates/{fingerprint('exact', images.identity)}.npy", make))
    return hashes


def digest_of(images: ImageSource) -> str:
    """Eight hex digits of a set's length and pixels; of a set of more than 100,000 images, of as many evenly spaced."""
    chosen = torch.linspace(0, len(images) - 1, min(len(images), DIGESTED), dtype=torch.float64).round().long()
    hashes = b"".join(exact_hashes(images.take(part)).tobytes() for part in torch.split(chosen, CHUNK))
    return hashlib.sha256(len(images).to_bytes(8, "big") + hashes).hexdigest()[:8]


def perceptual_hashes(images: Tensor) -> NDArray[np.uint64]:
    """Images uint8 (n, 3, 32, 32) -> 64 bits each (n,), nearly the same for other brightness, contrast, compression.

    The bits say which of the 8 x 8 lowest frequencies of the grey picture exceed their median (pHash).
    """
    red, green, blue = images.numpy().transpose(1, 0, 2, 3).astype(np.float32)
    spectra = dctn(0.299 * red + 0.587 * green + 0.114 * blue, axes=(1, 2), norm="ortho")[:, :8, :8].reshape(-1, 64)
    bits = spectra > np.median(spectra, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(np.uint64).ravel()


class PerceptualIndex:
    """Hashes of a set, sorted by each of their four bands, so that near ones are found without comparing all pairs."""

    def __init__(self, images: ImageSource) -> None:
        hashes = np.unique(np.concatenate([np.zeros(0, np.uint64), *map(perceptual_hashes, chunks(images))]))
        self.by_band = []
        for band in range(BANDS):
            keys = _band(hashes, band)
            order = np.argsort(keys, kind="stable")
            self.by_band.append((keys[order], hashes[order]))

    def near(self, hashes: NDArray[np.uint64], distance: int) -> NDArray[np.bool_]:
        """Whether the set holds a hash within a Hamming distance of at most 3, for each of the hashes (n,)."""
        close = np.zeros(len(hashes), bool)
        for band, (keys, sorted_hashes) in enumerate(self.by_band):
            wanted = _band(hashes, band)
            first, last = np.searchsorted(keys, wanted, "left"), np.searchsorted(keys, wanted, "right")
            counts = last - first
            asked = np.repeat(np.arange(len(hashes)), counts)
            # Places first[i], first[i] + 1, ... last[i] - 1 of each i, one after another.
            places = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
            differing = np.bitwise_count(hashes[asked] ^ sorted_hashes[places])
            close[asked[differing <= distance]] = True
        return close


def _band(hashes: NDArray[np.uint64], band: int) -> NDArray[np.uint64]:
    return (hashes >> np.uint64(16 * band)) & np.uint64(0xFFFF)
