"""Scores -> records: every metric of every detector on every OOD set with each side attacked; raw scores beside."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from aloe_lightning.evaluation.evaluate import Evaluation, State
from aloe_lightning.evaluation.records import Cell, Record, Side
from aloe_lightning.metrics import ood_metrics, tied_pairs
from aloe_lightning.storage.files import atomic_write

SIDES: dict[Side, tuple[State, State]] = {
    "none": ("clean", "clean"),
    "id": ("attacked", "clean"),
    "ood": ("clean", "attacked"),
    "both": ("attacked", "attacked"),
}
"""Which side is attacked -> the state of the ID scores and of the OOD scores."""


def records_of(
    evaluation: Evaluation,
    cell: Cell,
    settings: Mapping[str, str] | None = None,
    titles: Mapping[str, str] | None = None,
) -> list[Record]:
    """Every metric of every detector on every OOD set with each side attacked, and the accuracies.

    Args:
        evaluation: the scores.
        cell: what they are of.
        settings: fingerprint of each detector's settings by its name.
        titles: of detectors by name.
    """
    counts = {name: len(ood_set) for name, ood_set in evaluation.ood.items()}

    def record(detector: str, side: Side, ood: str, metric: str, value: float) -> Record:
        return Record(
            **asdict(cell),
            detector=detector,
            detector_title=(titles or {}).get(detector, detector),
            detector_settings=(settings or {}).get(detector, ""),
            side=side,
            ood=ood,
            num_id=len(evaluation.id),
            num_ood=counts.get(ood, 0),
            metric=metric,
            value=value,
        )

    records = []
    for detector, id_scores in evaluation.id.scores.items():
        for ood, ood_set in evaluation.ood.items():
            for side, (id_state, ood_state) in SIDES.items():
                pair = id_scores[id_state], ood_set.scores[detector][ood_state]
                for metric, value in {**ood_metrics(*pair), "tied_pairs": tied_pairs(*pair)}.items():
                    records.append(record(detector, side, ood, metric, value))
        if "misclassified" in id_scores:
            rejected = 1 - ood_metrics(id_scores["clean"], id_scores["misclassified"])["fpr95"]
            records.append(record(detector, "id", "", "one_minus_fpr95", rejected))
    accuracies: dict[Side, float | None] = {"none": evaluation.id.correct, "id": evaluation.id.robust}
    for attacked, share in accuracies.items():
        if share is not None:
            records.append(record("", attacked, "", "accuracy", share))
    return records


def write_scores(path: Path, evaluation: Evaluation) -> None:
    """Raw scores as a compressed `.npz`: `detector/set/state` -> (N,) float64; the ID set is called `id`."""
    arrays = {
        f"{detector}/{name}/{state}": scores
        for name, set_scores in {"id": evaluation.id, **evaluation.ood}.items()
        for detector, states in set_scores.scores.items()
        for state, scores in states.items()
    }
    with atomic_write(path) as part, part.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
