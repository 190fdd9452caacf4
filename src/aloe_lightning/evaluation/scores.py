"""The score file of a cell: the only module that knows its layout. Imports no torch."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aloe_lightning.errors import UserError
from aloe_lightning.storage.files import atomic_write

Condition = Literal["clean", "attacked", "misclassified", "guaranteed"]
"""`attacked`: by the attack on the detector; `misclassified`: in-distribution images attacked to be misclassified;
`guaranteed`: not reached by any attack: a lower bound for in-distribution images, an upper bound for OOD images."""

Array = NDArray[np.float64]


class ScoreKey(NamedTuple):
    """Identifies one array of scores.

    Attributes:
        detector: key of the detector in the config.
        dataset: `id`, or the name of an OOD test set.
        condition: condition of the images.
    """

    detector: str
    dataset: str
    condition: Condition

    def __str__(self) -> str:
        return "/".join(self)

    @classmethod
    def parse(cls, name: str) -> "ScoreKey":
        """Read `detector/dataset/condition`, the name of an array in the file."""
        detector, rest = name.split("/", 1)
        dataset, condition = rest.rsplit("/", 1)
        return cls(detector, dataset, condition)  # type: ignore[arg-type]


class Scores(Mapping[ScoreKey, Array]):
    """Scores of one net: arrays (N,) in the order of each test set, higher = more in-distribution."""

    def __init__(self, arrays: Mapping[ScoreKey, Array]) -> None:
        self._arrays = {ScoreKey(*key): np.asarray(values, dtype=np.float64) for key, values in arrays.items()}

    def __getitem__(self, key: tuple[str, str, str]) -> Array:
        return self._arrays[key]  # type: ignore[index]

    def __iter__(self) -> Iterator[ScoreKey]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    @property
    def detectors(self) -> list[str]:
        """Keys of the detectors, in the order of the evaluation."""
        return list(dict.fromkeys(key.detector for key in self))

    @property
    def ood_sets(self) -> list[str]:
        """Names of the OOD test sets, in the order of the evaluation."""
        return list(dict.fromkeys(key.dataset for key in self if key.dataset != "id"))

    def pooled_ood(self, detector: str, condition: Condition) -> Array:
        """Return the scores of all OOD test sets one after another."""
        return np.concatenate([self[detector, name, condition] for name in self.ood_sets])

    def save(self, path: Path) -> None:
        """Write a compressed `.npz`, whole or not at all."""
        with atomic_write(path) as part, part.open("wb") as stream:
            np.savez_compressed(stream, **{str(key): values for key, values in self.items()})  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> "Scores":
        """Read what `save` wrote, to the last bit.

        Raises:
            UserError: if the file is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls({ScoreKey.parse(name): arrays[name] for name in arrays.files})
        except Exception as error:  # zipfile and numpy raise whatever the damage suggests
            raise UserError(f"cannot read {path.absolute()}: damaged; recompute=evaluation writes it again") from error
