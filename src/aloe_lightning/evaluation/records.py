"""Numbers as they are kept: one JSON line each, with everything needed to say what the number is."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from aloe_lightning.errors import UserError
from aloe_lightning.storage.files import atomic_write

Side = Literal["none", "id", "ood", "both"]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What was trained and how it was attacked: the part that all records of one run share.

    Attributes:
        dataset: in-distribution data.
        outliers: auxiliary outliers, or "" for an objective without.
        net: of the objective.
        objective: original, oe, adv, aoe or aloe, or the name of one from elsewhere.
        objective_title: the same for tables.
        seed: of the training.
        train_epsilon: budget of the inner maximisation in 1/255 steps; None for an objective without.
        eval_epsilon: budget of the evaluation attack in 1/255 steps.
        regime: name of the evaluation attack's regime.
        rounding: of the evaluation attack.
        setting: fingerprint of all that must agree for two cells to stand in one table.
        split: the in-distribution images of the evaluation: test, or validation.
        pixels: digest of the in-distribution and OOD images.
        outlier_pixels: digest of the outliers, or "" for an objective without.
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
        detector_title: the same for tables.
        detector_settings: fingerprint of the detector's settings; of one name only one setting stands in a table.
        side: which side is attacked: none, id, ood or both.
        ood: the OOD test set; "" for a property of the classifier.
        num_id: in-distribution images behind the number.
        num_ood: OOD images behind the number.
        metric: `fpr95`, `detection_error`, `auroc`, `aupr_in`, `aupr_out`, `tied_pairs`; `accuracy`, with side `id`
            after the attack on the classifier; `one_minus_fpr95`: share of the images that this attack made which the
            detector rejects at the threshold of 95 % TPR on clean in-distribution images (Table 2).
        value: a fraction.
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


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write the file whole, so that a repeated run doubles nothing and a reader never sees half of it."""
    with atomic_write(path) as part:
        part.write_text("".join(json.dumps(asdict(record)) + "\n" for record in records))


def read_records(path: Path) -> list[Record]:
    """Read what `write_records` wrote.

    Raises:
        UserError: naming the file and the line that is not a record.
    """
    names = {field.name for field in fields(Record)}
    records = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            content = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path.absolute()}, line {number}: not JSON ({error}); run the cell again") from error
        if not isinstance(content, dict) or set(content) != names:
            raise UserError(f"{path.absolute()}, line {number}: not a record of this version; run the cell again")
        records.append(Record(**content))
    return records
