"""Make an entry of the zoo from a trained net and the finished evaluations of it."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from aloe_lightning import __version__
from aloe_lightning.config.build import build, build_data
from aloe_lightning.data import RobustOODData
from aloe_lightning.detectors.logits import max_softmax
from aloe_lightning.errors import UserError
from aloe_lightning.evaluation.records import Record, read_records
from aloe_lightning.evaluation.scores import Scores
from aloe_lightning.metrics import auroc, ood_metrics
from aloe_lightning.report.intervals import METRICS, intervals, share_interval
from aloe_lightning.signatures.description import describe
from aloe_lightning.storage import zoo
from aloe_lightning.storage.cells import facts_of, file_digest
from aloe_lightning.storage.files import atomic_write, read_json, write_json
from aloe_lightning.storage.models import TrainedModel
from aloe_lightning.storage.weights import load_weights
from aloe_lightning.zoo.sample import sample_scores

HALF_PRECISION_LIMIT = 0.0005
"""Largest change of a clean AUROC, a fraction, at which weights are stored in half precision."""
LARGEST_FILE = 3_000_000
"""Largest size of a file of weights, in bytes."""


def add(name: str, runs: list[Path], commit: str = "") -> Path:
    """Add a net to the zoo and return its card.

    Args:
        name: name of the net, such as `cifar10-aloe-eps1-small`.
        runs: folders of finished cells that evaluated the same net, one for each regime.
        commit: commit of the code that trained it; the card also states the version of the code that adds it.

    Raises:
        UserError: if a cell or its training is not finished, if the cells evaluated different nets or the same regime,
            if they have no MSP, if the net has a rejection class, or if the file would be too large.
    """
    model = _trained_model(runs)
    config = read_json(runs[0] / "config.json")
    if describe(config["objective"]["_target_"]).constants.get("rejection_class"):
        raise UserError(f"{name}: the net has a rejection class, which nets of the zoo must not have")
    if not all("msp" in Scores.load(run / "scores.npz").detectors for run in runs):
        raise UserError(f"{name}: the page of the zoo shows MSP: evaluate with detector=[msp] or more detectors")
    data = build_data(config, uses_outliers=False)
    node = {key: value for key, value in config["net"].items() if key != "name"}
    node |= {key: getattr(data.inliers, key) for key in ("num_classes", "mean", "std")}
    net: nn.Module = build(node, "net")
    load_weights(model.weights, net)
    net.eval()
    change, precision = _rounded(net, model, data, config["evaluation"])
    content = save({key: tensor.contiguous() for key, tensor in _stored(net.state_dict(), precision).items()})
    if len(content) > LARGEST_FILE:
        raise UserError(f"{name}: {len(content):,} bytes of weights; the zoo takes {LARGEST_FILE:,} at most")
    zoo.FOLDER.mkdir(exist_ok=True)
    with atomic_write(zoo.FOLDER / f"{name}.safetensors") as part:
        part.write_bytes(content)
    card = {
        "name": name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "precision": precision,
        "auroc_change": change,
        "net": {key: list(value) if isinstance(value, tuple) else value for key, value in node.items()},
        "training": _training(model.metadata, read_records(runs[0] / "records.jsonl")[0], commit),
        "evaluation": {regime: numbers for regime, numbers in map(_evaluation, runs)},
        "sample": sample_scores(net),
    }
    write_json(zoo.FOLDER / f"{name}.json", card)
    return zoo.FOLDER / f"{name}.json"


def _trained_model(runs: list[Path]) -> TrainedModel:
    """Return the net of finished cells; see `add` for the errors."""
    digests, regimes, folders = set(), [], set()
    for run in runs:
        if not (run / "records.jsonl").is_file():
            raise UserError(f"{run.absolute()} is no finished cell: it has no records.jsonl")
        facts = facts_of(run)
        digests.add(facts.get("weights"))
        folders.add(facts.get("model"))
        regimes.append(read_json(run / "config.json")["attack"]["name"])
    if len(digests) != 1 or len(set(regimes)) != len(regimes):
        raise UserError("give cells of one and the same net, one for each regime: these are of " + ", ".join(regimes))
    folder = folders.pop()
    model = TrainedModel(Path(folder or ""))
    if folder is None or not model.is_trained or file_digest(model.weights) not in digests:
        raise UserError(f"{folder}: its training is not finished, or it holds another net than the cells evaluated")
    if model.metadata["config"]["trainer"]["fast_dev_run"]:
        raise UserError(f"{folder}: a trial of one step (trainer.fast_dev_run)")
    return model


def _stored(state: Mapping[str, Tensor], precision: str) -> dict[str, Tensor]:
    """Return the tensors of the file; in half precision matrices and filters are rounded, vectors are not."""
    half = precision == "float16"
    return {key: tensor.half() if half and tensor.ndim > 1 else tensor for key, tensor in state.items()}


def _rounded(
    net: nn.Module, model: TrainedModel, data: RobustOODData, settings: Mapping[str, Any]
) -> tuple[float, str]:
    """Round the net's weights to half precision if scores permit it; return the change of AUROC and the precision."""
    before = _clean_scores(net, data, settings)
    exact = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    net.load_state_dict({key: tensor.float() for key, tensor in _stored(exact, "float16").items()})
    after = _clean_scores(net, data, settings)
    change = max(
        abs(auroc(after["id"], after[key]) - auroc(before["id"], before[key])) for key in before if key != "id"
    )
    if change <= HALF_PRECISION_LIMIT:
        return change, "float16"
    net.load_state_dict(exact)
    return 0.0, "float32"


@torch.no_grad()
def _clean_scores(net: nn.Module, data: RobustOODData, settings: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the MSP of the test images of the evaluation, by set; `id` for the in-distribution images."""
    sets = {"id": data.test_set(settings["max_id"]), **data.ood_sets(settings["max_ood"])}
    batches = {key: torch.split(source.images, 200) for key, source in sets.items()}
    return {
        key: np.concatenate([max_softmax(net(part.float() / 255)).numpy() for part in parts])
        for key, parts in batches.items()
    }


def _training(metadata: Mapping[str, Any], record: Record, commit: str) -> dict[str, Any]:
    config = metadata["config"]
    sizes = metadata["sizes"]
    return {
        "data": record.dataset,
        "outliers": record.outliers,
        "objective": record.objective,
        "objective_title": record.objective_title,
        "epsilon": record.train_epsilon,
        "attack": config["attack"]["train"] if record.train_epsilon is not None else None,
        "optim": config["optim"],
        "batch": config["batch"],
        "steps": metadata["steps"],
        "epochs": round(metadata["steps"] * config["batch"]["inliers"] / sizes["train"], 2),
        "precision": metadata.get("precision") or config["trainer"]["precision"],
        "seed": record.seed,
        "seconds": metadata["seconds"],
        "device": metadata["device"],
        "version": __version__,
        "commit": commit,
        "torch": metadata["packages"]["torch"],
        "images": sizes["train"],
        "digests": {"inliers": metadata["trained_on"][0], "outliers": metadata["trained_on"][1]},
    }


def _evaluation(run: Path) -> tuple[str, dict[str, Any]]:
    """Return the regime of a cell and its numbers: fractions, each with the bounds of its 95 % interval."""
    records, scores = read_records(run / "records.jsonl"), Scores.load(run / "scores.npz")
    first = records[0]
    accuracies = {record.side: record.value for record in records if record.metric == "accuracy"}
    conditions = {"clean": "none", "attacked": "id"}
    return first.regime, {
        "attack": first.attack,
        "epsilon": first.eval_epsilon,
        "num_id": first.num_id,
        "num_ood": {name: len(scores[scores.detectors[0], name, "clean"]) for name in scores.ood_sets},
        "pixels": first.pixels,
        "accuracy": {
            condition: [accuracies[side], *share_interval(accuracies[side], first.num_id)]
            for condition, side in conditions.items()
            if side in accuracies
        },
        "detectors": {
            detector: {condition: _detection(scores, detector, condition) for condition in conditions}
            for detector in scores.detectors
        },
    }


def _detection(scores: Scores, detector: str, condition: str) -> dict[str, list[float]]:
    """Return each metric's mean over the OOD sets, with both sides in one condition, and its interval."""
    id_scores = scores[detector, "id", condition]
    ood_scores = {name: scores[detector, name, condition] for name in scores.ood_sets}
    by_set = [ood_metrics(id_scores, values) for values in ood_scores.values()]
    bounds = intervals(id_scores, ood_scores)
    return {metric: [float(np.mean([m[metric] for m in by_set])), *bounds[metric]] for metric in METRICS}
