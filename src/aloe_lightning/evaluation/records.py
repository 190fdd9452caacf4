"""Records: one number each, with everything that identifies it; one JSON line for each. Imports no torch."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from aloe_lightning.errors import UserError
from aloe_lightning.evaluation.scores import Condition
from aloe_lightning.metrics import ood_metrics, tied_pairs
from aloe_lightning.storage.files import atomic_write, parse_json

if TYPE_CHECKING:
    from aloe_lightning.evaluation.evaluate import Evaluation

Side = Literal["none", "id", "ood", "both"]
"""The side that is attacked: neither, in-distribution images, OOD images, or both."""
SIDES: dict[Side, tuple[Condition, Condition]] = {
    "none": ("clean", "clean"),
    "id": ("attacked", "clean"),
    "ood": ("clean", "attacked"),
    "both": ("attacked", "attacked"),
}
"""For each side, the conditions of the in-distribution images and of the OOD images."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A trained net and an attack on it: the fields that all records of a run share.

    Attributes:
        dataset: in-distribution data.
        outliers: auxiliary outliers, or "" if the objective uses none.
        net: name of the net.
        objective: name of the objective, such as aloe.
        objective_title: the objective's name in tables.
        seed: seed of the training.
        train_epsilon: budget of the inner maximisation in 1/255 steps; None if the objective perturbs nothing.
        eval_epsilon: budget of the evaluation attack in 1/255 steps.
        regime: name of the attack in the config, such as paper.
        attack: description of the evaluation attack.
        protocol: fingerprint of the settings that must be equal for two cells to share a table.
        split: in-distribution images of the evaluation, test or validation.
        pixels: digest of the in-distribution and OOD images.
        outlier_pixels: digest of the outliers, or "" if the objective uses none.
    """

    dataset: str
    outliers: str
    net: str
    objective: str
    objective_title: str
    seed: int
    train_epsilon: float | None
    eval_epsilon: float
    regime: str
    attack: str
    protocol: str
    split: str = "test"
    pixels: str = ""
    outlier_pixels: str = ""


@dataclass(frozen=True, kw_only=True)
class Record(Cell):
    """One number.

    Attributes:
        detector: name of the detector; "" for a property of the classifier.
        detector_title: the detector's name in tables.
        detector_settings: fingerprint of the detector's settings, which are the same within a table.
        side: the side that is attacked.
        ood: name of the OOD test set; "" for a property of the classifier.
        num_id: number of in-distribution images that the number is computed from.
        num_ood: number of OOD images that the number is computed from.
        metric: `fpr95`, `detection_error`, `auroc`, `aupr_in`, `aupr_out`, `tied_pairs`; `accuracy`, with side `id`
            after the attack on the classifier; `one_minus_fpr95`: share of the images of this attack that the detector
            rejects at the threshold of 95 % TPR on clean in-distribution images (Table 2). Of an attack on scores
            also, for each member, `gain/<member>`: AUROC lost by adding it to the members before it, and
            `worst/<member>`: share of the attacked images that it is the first to bring to their worst score; and
            `flag/<name>`: share of these images with a sign of a weak attack.
        value: the number, a fraction.
    """

    detector: str
    detector_title: str
    detector_settings: str
    side: Side
    ood: str
    num_id: int
    num_ood: int
    metric: str
    value: float


def records_of(
    evaluation: "Evaluation",
    cell: Cell,
    fingerprints: Mapping[str, str] | None = None,
    titles: Mapping[str, str] | None = None,
) -> list[Record]:
    """Return every metric of every detector on every OOD set with each side attacked, and the accuracies.

    Args:
        evaluation: the scores.
        cell: the net and the attack of these scores.
        fingerprints: fingerprints of the detectors' settings, by detector.
        titles: titles of the detectors, by detector.
    """
    scores, records = evaluation.scores, []

    def add(detector: str, side: Side, ood: str, metric: str, value: float) -> None:
        records.append(
            Record(
                **asdict(cell),
                detector=detector,
                detector_title=(titles or {}).get(detector, detector),
                detector_settings=(fingerprints or {}).get(detector, ""),
                side=side,
                ood=ood,
                num_id=len(scores[scores.detectors[0], "id", "clean"]),
                num_ood=len(scores[detector, ood, "clean"]) if ood else 0,
                metric=metric,
                value=value,
            )
        )

    for detector in scores.detectors:
        for ood in scores.ood_sets:
            for side, (id_condition, ood_condition) in SIDES.items():
                pair = scores[detector, "id", id_condition], scores[detector, ood, ood_condition]
                for metric, value in {**ood_metrics(*pair), "tied_pairs": tied_pairs(*pair)}.items():
                    add(detector, side, ood, metric, value)
        if (detector, "id", "misclassified") in scores:
            pair = scores[detector, "id", "clean"], scores[detector, "id", "misclassified"]
            add(detector, "id", "", "one_minus_fpr95", 1 - ood_metrics(*pair)["fpr95"])
        ensemble_sides: dict[Side, tuple[str, ...]] = {"id": ("id",), "ood": tuple(scores.ood_sets)}
        for side, datasets in ensemble_sides.items():
            for dataset in datasets:
                ood = dataset if side == "ood" else ""
                for name, value in evaluation.ensemble.numbers(detector, dataset).items():
                    add(detector, side, ood, name, value)
        for ood in scores.ood_sets:
            for gain in evaluation.ensemble.gains(detector, ood):
                add(detector, "both", ood, f"gain/{gain.member}", gain.auroc)
    accuracies: dict[Side, float | None] = {"none": evaluation.accuracy, "id": evaluation.robust_accuracy}
    for side, accuracy in accuracies.items():
        if accuracy is not None:
            add("", side, "", "accuracy", accuracy)
    return records


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Replace the whole file atomically: repeated runs add no duplicates, and no reader sees a partial file."""
    with atomic_write(path) as part:
        part.write_text("".join(json.dumps(asdict(record)) + "\n" for record in records))


def read_records(path: Path) -> list[Record]:
    """Read the records that `write_records` wrote.

    Raises:
        UserError: if a line is not a record; the message names file and line.
    """
    names = {field.name for field in fields(Record)}
    records = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        try:
            content = parse_json(line)
        except ValueError as error:
            raise UserError(f"{path.absolute()}, line {number}: not JSON ({error}); run the cell again") from error
        if not isinstance(content, dict) or set(content) != names or not isinstance(content["value"], int | float):
            raise UserError(f"{path.absolute()}, line {number}: not a record of this version; run the cell again")
        records.append(Record(**content))
    return records
