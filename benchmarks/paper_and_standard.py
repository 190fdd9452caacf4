"""`python -m benchmarks.paper_and_standard`: whether `standard` is ever weaker than the paper's attack.

Attacks each detector on each net with both, and prints the AUROC by attacked side, the share of images whose score is
worse after the paper's attack than after `standard`, and the cost per image: gradients, where all pass through the
logits, and time, fits included. The in-distribution images are the first CIFAR-10 test images; the OOD images are
spread evenly over Textures and Places365 (AUROC: mean over these sets). Detectors are fitted on the first CIFAR-10
training images and the given outliers.
"""

import argparse
import pickle
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from aloe_lightning import zoo
from aloe_lightning.attacks import PGD, Attack, ScoreAttack, Strong
from aloe_lightning.data import ImageSet, NpyImages
from aloe_lightning.detectors import KNN, Detector, FitData, Mahalanobis, MahalanobisLast, ReAct, ViM
from aloe_lightning.evaluation.evaluate import Evaluation, EvaluationSettings, evaluate
from aloe_lightning.metrics import auroc
from aloe_lightning.nets import DenseNet
from aloe_lightning.nets.features import with_features
from benchmarks.strong_attack import DETECTORS, Counter, image_sets, robust_cnn, small_net

FITTED: dict[str, Detector] = {
    "knn": KNN(images=1000),
    "vim": ViM(),
    "react": ReAct(),
    "mahalanobis_last": MahalanobisLast(),
    "mahalanobis": Mahalanobis(images=200),
}
ALL = DETECTORS | FITTED
SIDES = {"id": ("attacked", "clean"), "ood": ("clean", "attacked"), "both": ("attacked", "attacked")}
"""Conditions of the in-distribution and of the OOD images, by attacked side."""


def densenet(file: Path) -> nn.Module:
    """Return the DenseNet of the golden data."""
    with np.load(file, allow_pickle=False) as arrays:
        net = DenseNet(10, mean=arrays["__mean__"].tolist(), std=arrays["__std__"].tolist())
        net.load_state_dict({key: torch.from_numpy(arrays[key]) for key in arrays.files if not key.startswith("__")})
    return net.eval()


def fit_data(root: Path, outlier_file: Path, count: int) -> FitData:
    """Return the first CIFAR-10 training images, and as many outliers, spread evenly over their file."""
    with (root / "cifar-10-batches-py" / "data_batch_1").open("rb") as stream:
        content = pickle.load(stream, encoding="latin1")
    pixels = torch.from_numpy(np.asarray(content["data"])[:count].reshape(-1, 3, 32, 32).copy())
    inliers = ImageSet(pixels, torch.tensor(content["labels"][:count]))
    outliers = NpyImages(path=str(outlier_file)).load()
    return FitData(
        inliers=lambda: inliers,
        outliers=lambda: ImageSet(outliers.take(torch.linspace(0, len(outliers) - 1, count).long())),
        num_classes=10,
    )


def nets(options: argparse.Namespace) -> Mapping[str, Callable[[], nn.Module]]:
    """Return functions that load the nets, by name."""
    loaders: dict[str, Callable[[], nn.Module]] = {
        "golden DenseNet": partial(densenet, options.golden / "densenet_bc100_cifar10.npz"),
        "golden robust CNN": partial(robust_cnn, options.golden / "robust_cnn_cifar10.npz"),
    }
    loaders |= {name: partial(zoo.load, name) for name in zoo.list() if name.startswith("cifar10-")}
    return loaders | {name: partial(small_net, Path(file)) for name, file in (x.split("=", 1) for x in options.weights)}


def number(evaluation: Evaluation, detector: str, side: str) -> float:
    """Return the AUROC of one attacked side, the mean over OOD sets, in percent."""
    scores, (id_condition, ood_condition) = evaluation.scores, SIDES[side]
    values = [
        auroc(scores[detector, "id", id_condition], scores[detector, name, ood_condition]) for name in scores.ood_sets
    ]
    return 100 * float(np.mean(values))


def weaker(paper: Evaluation, standard: Evaluation, detector: str) -> float:
    """Return the share of images that the paper's attack brings to a worse score, by more than rounding."""
    masks = []
    for name in ("id", *paper.scores.ood_sets):
        first, second = (evaluation.scores[detector, name, "attacked"] for evaluation in (paper, standard))
        masks.append((first - second) * (-1 if name == "id" else 1) > 1e-6 * np.abs(second))
    return float(np.concatenate(masks).mean())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper_and_standard", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--golden", type=Path, required=True)
    parser.add_argument("--outliers", type=Path, required=True, help=".npy file, uint8 (N, 32, 32, 3)")
    parser.add_argument("--weights", nargs="*", default=[], metavar="NAME=FILE", help="small nets beside the zoo's")
    parser.add_argument("--nets", nargs="*", help="names of nets (all)")
    parser.add_argument("--detectors", nargs="+", choices=list(ALL), default=list(ALL))
    parser.add_argument("--epsilon", type=float, default=1.0)
    parser.add_argument("--preset", choices=["quick", "standard", "extreme"], default="standard")
    parser.add_argument("--id", type=int, default=16)
    parser.add_argument("--ood", type=int, default=8, help="images of each OOD set")
    parser.add_argument("--fit", type=int, default=1000, help="training images that detectors are fitted on")
    options = parser.parse_args()
    id_set, ood_sets = image_sets(options.data, options.id, options.ood)
    ood_sets.pop("resize")
    count = len(id_set) + sum(map(len, ood_sets.values()))
    attacks: dict[str, Attack | ScoreAttack] = {
        "paper": PGD(epsilon=options.epsilon, steps=10),
        options.preset: Strong(epsilon=options.epsilon, preset=options.preset, epsilon_checks=0),
    }
    print(f"{count} images ({options.id} in-distribution), epsilon {options.epsilon:g}: paper / {options.preset}\n")
    print("| net | detector | id | ood | both | paper is worse on | gradients an image | ms an image |")
    print("|:--|:--|--:|--:|--:|--:|--:|--:|", flush=True)
    settings, data = EvaluationSettings(classifier=False), fit_data(options.data, options.outliers, options.fit)
    for name, load in nets(options).items():
        if options.nets and name not in options.nets:
            continue
        net = with_features(load())
        counter = Counter(net)
        for detector in options.detectors:
            results, costs = {}, {}
            for title, attack in attacks.items():
                counter.with_gradient, begun = 0, time.perf_counter()
                results[title] = evaluate(net, {detector: ALL[detector]}, id_set, ood_sets, attack, settings, data=data)
                costs[title] = counter.with_gradient / count, 1000 * (time.perf_counter() - begun) / count
            cells = [" / ".join(f"{number(result, detector, s):.2f}" for result in results.values()) for s in SIDES]
            cells.append(f"{weaker(*results.values(), detector):.1%}")
            through_logits = all(gradients for gradients, _ in costs.values())
            cells.append(" / ".join(f"{gradients:.0f}" for gradients, _ in costs.values()) if through_logits else "-")
            cells.append(" / ".join(f"{milliseconds:.0f}" for _, milliseconds in costs.values()))
            print(f"| {name} | {detector} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
