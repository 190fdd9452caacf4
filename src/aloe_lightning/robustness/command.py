"""The command `+experiment=attack`: a given net from a config, evaluated, saved and put into the study's report."""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from aloe_lightning.attacks import Attack, ScoreAttack
from aloe_lightning.data import ImageFolder, ImageSet, PictureSet, TestFolder, UnlabelledDataset
from aloe_lightning.detectors import Detector
from aloe_lightning.errors import UserError
from aloe_lightning.evaluation.evaluate import Evaluation
from aloe_lightning.evaluation.records import SIDES, Cell, Record, records_of, write_records
from aloe_lightning.nets import LibraryNet, RejectionNet
from aloe_lightning.robustness.attack import kind_of
from aloe_lightning.robustness.evaluate import evaluate
from aloe_lightning.robustness.images import Images, images_of
from aloe_lightning.robustness.page import write_report
from aloe_lightning.robustness.passes import size_text
from aloe_lightning.robustness.result import Result
from aloe_lightning.robustness.scores import settings_text
from aloe_lightning.runtime.environment import environment_of
from aloe_lightning.signatures.description import describe
from aloe_lightning.storage.batches import SetDigest, digest_of_net
from aloe_lightning.storage.cache import content_hash
from aloe_lightning.storage.cells import cell_name, custom_data_fingerprint, file_digest
from aloe_lightning.storage.files import write_json
from aloe_lightning.storage.weights import load_weights
from aloe_lightning.storage.zoo import zoo_name

log = logging.getLogger(__name__)
COMPARED = ("size", "epsilon", "norm", "preset", "attack", "seed", "counts", "pixels")
"""Settings that must be equal for two nets to stand in one report."""


def evaluate_given(
    config: dict[str, Any],
    folder: Path,
    net: nn.Module,
    data: TestFolder,
    ood: Mapping[str, UnlabelledDataset],
    detectors: Mapping[str, Detector],
    attack: Attack | ScoreAttack,
) -> list[Record]:
    """Evaluate a given net and write result, records and the report of the study.

    Args:
        config: validated config as plain values.
        folder: run folder, inside the study folder; an interrupted evaluation continues from it.
        net: the net, without the weights of `checkpoint=`.
        data: in-distribution test images.
        ood: OOD test sets by name.
        detectors: detectors by name.
        attack: the attack.

    Raises:
        UserError: if the net has no weights, and for everything that `evaluate` refuses.
    """
    _load(config, net)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net.to(device).eval()
    settings = config["evaluation"]
    count, size = settings["batch_size"], data.size
    stated = getattr(net, "image_size", None)
    if size is not None and stated is not None and size != stated:
        raise UserError(
            f"net={config['net']['name']} expects {size_text((stated, stated))} pixels, and data.size is {size}: leave "
            f"it out, or set net.size={size} if the weights were trained at that size"
        )
    size = size or stated
    if config["recompute"] != "nothing":
        for stored in folder.glob("batches-*"):
            shutil.rmtree(stored)
    parameter = describe(config["net"]["_target_"]).parameters.get("mean")
    # The builder gives mean and std of the data to a net that requires them; before any other net they are put here.
    mean, std = (data.mean, data.std) if parameter is None or parameter.default is None else (None, None)
    if describe(config["objective"]["_target_"]).constants.get("rejection_class"):
        if data.num_classes is None:
            raise UserError("a net with a rejection class has one output more than classes: set data.num_classes")
        net = RejectionNet(net, data.num_classes)
    result = evaluate(
        net,
        _limited(images_of("id", data.test, size, count or 16), settings["max_id"]),
        {name: _limited(_ood(name, node, size, count or 16), settings["max_ood"]) for name, node in ood.items()},
        detectors=detectors,
        attack=attack,
        train=data.train,
        size=size,
        seed=config["seed"],
        batch_size=count,
        folder=folder,
        name=zoo_name(config["checkpoint"]) or config["net"]["name"],
        mean=mean,
        std=std,
    )
    result.save(folder)
    records = records_of(
        Evaluation(scores=result.scores, accuracy=result.accuracy),
        _cell(config, result),
        titles={name: detector.title for name, detector in detectors.items()},
    )
    write_json(folder / "config.json", config)
    facts = {
        "cell": cell_name(config),
        "weights": file_digest(config["checkpoint"] or config["net"].get("path") or ""),
        "files": custom_data_fingerprint(config),
        "model": None,
    }
    write_json(folder / "versions.json", {**facts, **environment_of(device)})
    write_records(folder / "records.jsonl", records)
    page = write_report(comparable_results(folder.parent, result), folder.parent)
    print(result.table().T.to_string())
    print(f"report: {page}")
    return records


def result_of_cell(
    title: str,
    net: nn.Module,
    evaluation: Evaluation,
    detectors: Mapping[str, Detector],
    sets: Mapping[str, ImageSet],
    attack: Attack | ScoreAttack,
    epsilon: float,
    seed: int,
) -> Result:
    """Return the evaluation of a cell of the paper's tables as the result of a given net, without a guaranteed bound.

    Args:
        title: name of the net.
        net: the net.
        evaluation: its evaluation under the attack.
        detectors: the detectors by name.
        sets: the images, `id` and the OOD sets by name.
        attack: the attack.
        epsilon: its radius in 1/255 of the pixel range.
        seed: random seed of the evaluation.
    """
    members, flags = evaluation.ensemble.summary()
    digests = {name: digest_of_set(images, labelled=name == "id") for name, images in sets.items()}
    id_set = sets["id"]
    settings = {
        "net": title,
        "size": size_text(id_set.images.shape[2:]),
        "epsilon": epsilon,
        "norm": getattr(attack, "norm", "linf"),
        "attack": attack.describe(),
        "kinds": {name: kind_of(attack, fitted) for name, fitted in evaluation.fitted.items()},
        "detectors": {name: settings_text(detector) for name, detector in detectors.items()},
        "seed": seed,
        "weights": digest_of_net(net),
        "counts": {name: len(images) for name, images in sets.items()},
        "data": digests,
        "members": members,
        "flags": flags,
    }
    labelled = len(id_set) if evaluation.accuracy is not None else 0
    return Result(
        scores=evaluation.scores, accuracy=evaluation.accuracy, labelled=labelled, sides=list(SIDES), settings=settings
    )


def digest_of_set(images: ImageSet, *, labelled: bool) -> str:
    """Return the SHA-256 of the images of a set, and of its labels, as `evaluate` computes it."""
    digest = SetDigest()
    for part in torch.split(torch.arange(len(images)), 1000):
        labels = images.labels[part] if labelled and images.labels is not None else None
        digest.update(images.take(part).float() / 255, labels)
    return digest.hexdigest()


def comparable_results(study: Path, result: Result) -> dict[str, Result]:
    """Return the results of all nets of a study on the same images under the same attack, by name."""
    found = {str(result.settings["net"]): result}
    for file in sorted(study.glob("*/result.json")):
        other = Result.load(file.parent)
        if all(other.settings.get(key) == result.settings.get(key) for key in COMPARED):
            found.setdefault(str(other.settings["net"]), other)
    return dict(sorted(found.items()))


def _load(config: dict[str, Any], net: nn.Module) -> None:
    if config["checkpoint"] is not None:
        load_weights(config["checkpoint"], net)
        log.info("weights of %s", config["checkpoint"])
    elif isinstance(net, LibraryNet) and not (config["net"].get("weights") or config["net"].get("pretrained")):
        raise UserError(
            f"net={config['net']['name']} has random weights: give checkpoint=, or net.weights=DEFAULT (timm: "
            "net.pretrained=true) for those of the library"
        )


def _ood(name: str, node: UnlabelledDataset, size: int | None, count: int) -> Images:
    if isinstance(node, PictureSet) and size is not None:
        node = replace(node, size=size)
    return images_of(name, node.path if isinstance(node, ImageFolder) else node.load(), size, count)


def _limited(images: Images, limit: int | None) -> Images:
    return images if limit is None else images.sample(limit)


def _cell(config: dict[str, Any], result: Result) -> Cell:
    settings = result.settings
    return Cell(
        dataset=config["data"]["name"],
        outliers="",
        net=str(settings["net"]),
        objective=str(settings["net"]),
        objective_title=str(settings["net"]),
        seed=config["seed"],
        train_epsilon=None,
        eval_epsilon=float(settings["epsilon"]),
        regime=config["attack"]["name"],
        attack=str(settings["attack"]),
        protocol=content_hash([settings[key] for key in COMPARED])[:8],
        split="test",
        pixels=str(settings["pixels"])[:8],
    )
