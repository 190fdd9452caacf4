"""What the numbers of a table are: data, counts, attack and conventions, from the records themselves."""

from collections.abc import Sequence

from aloe_lightning.evaluation.records import Record
from aloe_lightning.paper.methods import OUTLIER_TITLES


def caption(records: Sequence[Record]) -> str:
    """Everything about one data set's numbers."""
    return f"{data_of(records)} {conventions(records)}"


def data_of(records: Sequence[Record]) -> str:
    """Net, outliers, images and seeds."""
    first = records[0]
    sets = {r.ood: r.num_ood for r in records if r.ood}
    outliers = next((r.outliers for r in records if r.outliers), "none")
    seeds = sorted({r.seed for r in records})
    return (
        f"Net {first.net}, outliers {OUTLIER_TITLES.get(outliers, outliers)}; "
        f"{first.num_id} in-distribution {first.split} images, OOD test sets "
        + ", ".join(f"{name} ({count})" for name, count in sets.items())
        + f"; seed {', '.join(map(str, seeds))}."
    )


def conventions(records: Sequence[Record]) -> str:
    """Attack, means, thresholds and ties."""
    first = records[0]
    others = {"mahalanobis": "Mahalanobis: Algorithm 2", "pytorch_ood": "pytorch_ood: as its setting attack says"}
    found = [text for name, text in others.items() if any(r.detector == name for r in records)]
    second = f" ({'; '.join(found)})" if found else ""
    return (
        f"Attacked on both sides by Algorithm 1{second}, {first.regime} regime, rounding {first.attack}; means over "
        "the OOD sets in percent. FPR95 at the threshold whose ID true positive rate is nearest to 95 %; ties count "
        "one half in AUROC."
    )
