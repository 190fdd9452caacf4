"""Examples: the images that an attack moved furthest across the threshold of a detector. Imports no torch."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aloe_lightning.metrics import threshold_at_tpr
from aloe_lightning.storage.files import atomic_write

FILE = "examples.npz"
Side = Literal["id", "ood"]


@dataclass(frozen=True)
class Examples:
    """Clean and attacked images of one detector and one side, the most telling first (see `furthest`).

    Attributes:
        dataset: names of their test sets, str (n,).
        position: their positions in the test sets, int64 (n,).
        clean: clean images, uint8 (n, 3, H, W).
        attacked: the images that the evaluation scored as attacked, float32 (n, 3, H, W) in [0, 1].
        clean_score: scores of the clean images, float64 (n,), higher = more in-distribution.
        attacked_score: scores of the attacked images, float64 (n,).
        threshold: threshold of 95 % TPR on clean in-distribution images, float64 (n,); images above it are accepted.
    """

    dataset: NDArray[np.str_]
    position: NDArray[np.int64]
    clean: NDArray[np.uint8]
    attacked: NDArray[np.float32]
    clean_score: NDArray[np.float64]
    attacked_score: NDArray[np.float64]
    threshold: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.position)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the attributes by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def take(self, chosen: NDArray[Any]) -> "Examples":
        """Return the images at these places, or where a Boolean array says so."""
        return Examples(**{name: values[chosen] for name, values in self.arrays().items()})

    def furthest(self, count: int, side: Side, threshold: float | None = None) -> "Examples":
        """Return at most `count` images: see the function `furthest`; a given threshold replaces the present one."""
        if threshold is not None:
            values = {**self.arrays(), "threshold": np.full(len(self), threshold)}
            return Examples(**values).furthest(count, side)
        return self.take(furthest(self.clean_score, self.attacked_score, self.threshold, side)[:count])

    @classmethod
    def concatenate(cls, parts: Iterable["Examples"]) -> "Examples":
        """Put the images of several parts, of one size, one after another."""
        parts = list(parts)
        names = [field.name for field in fields(cls)]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def furthest(
    clean: NDArray[np.float64], attacked: NDArray[np.float64], threshold: Any, side: Side
) -> NDArray[np.int64]:
    """Order images by how far the attack moved their score; those that crossed the threshold come first.

    Images whose score did not move towards the wrong side (down for in-distribution images, up for OOD images) are
    left out.

    Args:
        clean: scores (N,) of the clean images.
        attacked: scores (N,) of the attacked images.
        threshold: one threshold, or one for each image (N,); images above it are accepted.
        side: `id` or `ood`.

    Returns:
        Their places in the arrays.
    """
    with np.errstate(invalid="ignore"):  # a score that is not finite is refused later, by its name
        moved = (attacked - clean) * (-1 if side == "id" else 1)
    crossed = (clean > threshold) != (attacked > threshold)
    order = np.lexsort((-moved, ~crossed))
    return order[moved[order] > 0]


class Furthest:
    """The examples of each detector and side over all batches so far, so that a batch stores only what enters them.

    Args:
        count: number of images of each detector and side.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._found: dict[tuple[str, Side], Examples] = {}

    def entering(self, side: Side, batch: Mapping[str, Examples]) -> dict[str, Examples]:
        """Add the examples of a batch by detector, and return those that are now among the `count` furthest."""
        entered = {}
        for detector, examples in batch.items():
            before = self._found.get((detector, side))
            together = examples if before is None else Examples.concatenate([before, examples])
            self._found[detector, side] = found = together.furthest(self.count, side)
            places = set(zip(found.dataset.tolist(), found.position.tolist(), strict=True))
            new = [place in places for place in zip(examples.dataset.tolist(), examples.position.tolist(), strict=True)]
            entered[detector] = examples.take(np.array(new, dtype=bool))
        return entered


def save_examples(examples: Mapping[tuple[str, Side], Examples], folder: Path) -> None:
    """Write `examples.npz` into a run's folder; without examples remove it."""
    arrays = {
        f"{detector}/{side}/{name}": values
        for (detector, side), images in examples.items()
        for name, values in images.arrays().items()
    }
    if not arrays:
        (folder / FILE).unlink(missing_ok=True)
        return
    with atomic_write(folder / FILE) as part, part.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]


def load_examples(folder: Path) -> dict[tuple[str, Side], Examples]:
    """Read the examples of a run by detector and side; none if it has none, or if the file is damaged."""
    parts: dict[tuple[str, Side], dict[str, NDArray[Any]]] = {}
    try:
        with np.load(folder / FILE, allow_pickle=False) as content:
            for key in content.files:
                detector, side, name = key.rsplit("/", 2)
                parts.setdefault((detector, "id" if side == "id" else "ood"), {})[name] = content[key]
        return {key: Examples(**values) for key, values in parts.items()}
    except Exception:  # absent or damaged, and zipfile and numpy raise whatever that suggests: only pictures are lost
        return {}


def threshold_of(clean_id_scores: NDArray[np.float64]) -> float:
    """Return the threshold of 95 % TPR on clean in-distribution images; NaN if scores are not finite."""
    return threshold_at_tpr(clean_id_scores) if np.isfinite(clean_id_scores).all() else float("nan")
