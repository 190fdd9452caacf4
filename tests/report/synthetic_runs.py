"""Finished runs with scores drawn at random, written as an evaluation writes them."""

from dataclasses import asdict, replace

import numpy as np

from aloe_lightning.evaluation.records import Cell, Record, write_records
from aloe_lightning.evaluation.scores import ScoreKey, Scores
from aloe_lightning.metrics import ood_metrics, tied_pairs

TITLES = {"original": "Original", "oe": "OE", "adv": "ADV", "aoe": "AOE", "aloe": "ALOE"}
OBJECTIVES = tuple(TITLES)
PERTURBED = ("adv", "aoe", "aloe")
DETECTORS = {"msp": "MSP", "odin": "ODIN", "mahalanobis": "Mahalanobis", "energy": "Energy", "odin_2": "ODIN"}
PAPER_DETECTORS = {"original": ("msp", "odin", "mahalanobis"), "adv": ("msp",), "aoe": ("msp",)}
"""Detectors that the paper has for an objective; msp and odin for the others."""
SIDES = {
    "none": ("clean", "clean"),
    "id": ("attacked", "clean"),
    "ood": ("clean", "attacked"),
    "both": ("attacked", "attacked"),
}
CELL = Cell(
    dataset="cifar10", outliers="300k", net="small", objective="aloe", seed=0, train_epsilon=1, eval_epsilon=1,
    regime="paper", attack="PGD, 10 steps of 1/255, random start, rounding none", protocol="0123abcd",
    objective_title="ALOE",
)  # fmt: skip


def cell(objective="aloe", **changes):
    """A cell trained at the budget of its evaluation, unless a change says otherwise."""
    epsilon = changes.get("eval_epsilon", 1)
    trained = {"train_epsilon": epsilon if objective in PERTURBED else None}
    title = {"objective": objective, "objective_title": TITLES.get(objective, objective)}
    return replace(CELL, **{**title, **trained, **changes})


def detectors_of(objective):
    return PAPER_DETECTORS.get(objective, ("msp", "odin"))


def scores_of(seed, detectors=("msp", "odin"), ood_sets=("a", "b")):
    """50 in-distribution images, 40 of each OOD set."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for detector in detectors:
        for condition in ("clean", "attacked", "misclassified"):
            arrays[ScoreKey(detector, "id", condition)] = rng.beta(3, 2, 50)
        for name in ood_sets:
            for condition in ("clean", "attacked"):
                arrays[ScoreKey(detector, name, condition)] = rng.beta(2, 2, 40)
    return Scores(arrays)


def records_of(run, scores, accuracy=(0.9, 0.5), settings=None, titles=None):
    """The records of a cell by the definitions of the metrics."""

    def record(detector, side, ood, metric, value):
        return Record(
            **asdict(run), detector=detector, detector_title=(titles or DETECTORS).get(detector, detector),
            detector_settings=(settings or {}).get(detector, detector), side=side, ood=ood, num_id=50,
            num_ood=40 if ood else 0, metric=metric, value=value,
        )  # fmt: skip

    records = []
    for detector in scores.detectors:
        for ood in scores.ood_sets:
            for side, (id_condition, ood_condition) in SIDES.items():
                pair = scores[detector, "id", id_condition], scores[detector, ood, ood_condition]
                metrics = {**ood_metrics(*pair), "tied_pairs": tied_pairs(*pair)}
                records += [record(detector, side, ood, metric, value) for metric, value in metrics.items()]
        clean, attacked = scores[detector, "id", "clean"], scores[detector, "id", "misclassified"]
        rejected = 1 - ood_metrics(clean, attacked)["fpr95"]
        records.append(record(detector, "id", "", "one_minus_fpr95", rejected))
    records += [record("", side, "", "accuracy", value) for side, value in zip(("none", "id"), accuracy, strict=True)]
    return records


def write_run(folder, run, seed=0, detectors=None, **options):
    """Write the run of a cell, and return its records."""
    scores = scores_of(seed, detectors or detectors_of(run.objective))
    rng = np.random.default_rng(1000 + seed)
    accuracy = options.pop("accuracy", (0.5 + rng.random() / 2, rng.random() / 2))
    records = records_of(run, scores, accuracy, **options)
    folder.mkdir(parents=True)
    write_records(folder / "records.jsonl", records)
    scores.save(folder / "scores.npz")
    return records


def write_paper(folder, seeds=(0,)):
    """Write all cells of the paper."""
    budgets = {"gtsrb": (1, 2, 3, 4), "cifar10": (1, 2, 3, 4), "cifar100": (1,)}
    number = 0
    for dataset, epsilons in budgets.items():
        for epsilon in epsilons:
            for objective in OBJECTIVES:
                for seed in seeds:
                    run = cell(objective, dataset=dataset, seed=seed, protocol=dataset, eval_epsilon=epsilon)
                    write_run(folder / dataset / f"{objective}-{epsilon}-{seed}", run, number)
                    number += 1
