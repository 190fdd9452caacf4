"""The number that a job returns by name (`optimize=`) to a sweeper such as Optuna."""

from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import TYPE_CHECKING, Any

from aloe_lightning.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from aloe_lightning.evaluation.records import Record

OOD_METRICS = ("auroc", "fpr95", "detection_error", "aupr_in", "aupr_out")
SIDES = {"clean": "none", "attacked": "both"}
ACCURACIES = {"accuracy": "none", "attacked_accuracy": "id"}
"""Names of the classifier's metrics, and the side that is attacked."""


def require_metric(name: str, config: Mapping[str, Any]) -> None:
    """Raise UserError, with the list of names, if the records of a cell will have no metric of this name.

    Names are `clean_auroc`, the mean over the OOD sets and detectors; `clean_auroc/odin`, the mean over the OOD sets;
    `clean_auroc/odin/textures`; `attacked_auroc` with both sides attacked; `accuracy` and `attacked_accuracy`.
    """
    metrics = [f"{side}_{metric}" for side in SIDES for metric in OOD_METRICS]
    metric, *place = name.split("/")
    known = place[:1] in ([], *([key] for key in config["detector"])) and place[1:] in (
        [],
        *([k] for k in config["ood"]),
    )
    accuracies = list(ACCURACIES) if config["evaluation"].get("classifier", True) else []
    if (metric in metrics and known) or name in accuracies:
        return
    hint = did_you_mean(metric, [*metrics, *accuracies]) if metric not in metrics else ""
    raise UserError(
        f"config: optimize={name} is no metric of this cell{hint}; there are {', '.join([*metrics, *accuracies])}; "
        f"METRIC/DETECTOR with {', '.join(config['detector'])}; METRIC/DETECTOR/OOD with {', '.join(config['ood'])}"
    )


def metric_of(name: str, records: "Iterable[Record]") -> float:
    """Return the metric that `require_metric` has accepted; a fraction."""
    if name in ACCURACIES:
        return next(r.value for r in records if r.metric == "accuracy" and r.side == ACCURACIES[name])
    metric, *place = name.split("/")
    side, _, measure = metric.partition("_")
    return fmean(
        r.value
        for r in records
        if r.ood and (r.side, r.metric) == (SIDES[side], measure) and [r.detector, r.ood][: len(place)] == place
    )
