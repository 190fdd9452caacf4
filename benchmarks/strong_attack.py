"""`python -m benchmarks.strong_attack --data DIR --golden DIR`: AUROC under each attack, and its cost per image.

The net is the robust CNN of the golden data, or with `--small FILE` a small net trained on CIFAR-10; the images are the
first 400 CIFAR-10 test images and 200 of each of Textures, Places365 and a resized set, spread evenly over their files.
Prints a table in Markdown; cells are means over the OOD sets.
"""

import argparse
import pickle
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from aloe_lightning.attacks import PGD, Attack, ScoreAttack, Strong
from aloe_lightning.data import ImageFolder, ImageSet
from aloe_lightning.data.catalogue import card_of
from aloe_lightning.detectors import MSP, ODIN, Detector, Energy, MaxLogit
from aloe_lightning.evaluation.evaluate import Evaluation, EvaluationSettings, evaluate
from aloe_lightning.metrics import auroc
from aloe_lightning.nets import Normalize, SmallNet
from aloe_lightning.storage.weights import load_weights

FOLDERS = {"textures": "dtd/images", "places365": "places365/test_subset", "resize": "standin_lsun_resize"}
DETECTORS: dict[str, Detector] = {"msp": MSP(), "odin": ODIN(), "energy": Energy(), "max_logit": MaxLogit()}


def robust_cnn(file: Path) -> nn.Module:
    """Return the robust CNN of the golden data."""
    with np.load(file, allow_pickle=False) as arrays:
        weights = {key: torch.from_numpy(arrays[key]) for key in arrays.files if not key.startswith("__")}
        normalize = Normalize(arrays["__mean__"].tolist(), arrays["__std__"].tolist())
    layers = nn.Sequential(
        *(nn.Conv2d(3, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(2048, 100), nn.ReLU(), nn.Linear(100, 10)),
    )
    layers.load_state_dict(weights)
    return nn.Sequential(normalize, layers).eval()


def small_net(file: Path) -> nn.Module:
    """Return a small net of this package that was trained on CIFAR-10."""
    card = card_of("cifar10")
    assert card.mean is not None
    assert card.std is not None
    net = SmallNet(10, mean=card.mean, std=card.std)
    load_weights(file, net)
    return net.eval()


def image_sets(root: Path, num_id: int, num_ood: int) -> tuple[ImageSet, dict[str, ImageSet]]:
    """Return in-distribution images and the OOD sets."""
    with (root / "cifar-10-batches-py" / "test_batch").open("rb") as stream:
        content = pickle.load(stream, encoding="latin1")
    pixels = torch.from_numpy(np.asarray(content["data"])[:num_id].reshape(-1, 3, 32, 32).copy())
    labels = torch.tensor(content["labels"][:num_id])
    ood = {}
    for name, folder in FOLDERS.items():
        source = ImageFolder(path=str(root / folder)).load()
        ood[name] = ImageSet(source.take(torch.linspace(0, len(source) - 1, num_ood).long()))
    return ImageSet(pixels, labels), ood


class Counter:
    """Counts the images that pass through a net, with and without a gradient."""

    def __init__(self, net: nn.Module) -> None:
        self.with_gradient = self.without = 0
        net.register_forward_pre_hook(self._count)

    def _count(self, net: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if torch.is_grad_enabled() and inputs[0].requires_grad:
            self.with_gradient += len(inputs[0])
        else:
            self.without += len(inputs[0])


def mean_auroc(evaluation: Evaluation, detector: str, condition: str) -> float:
    """Return the mean over OOD sets, both sides under the same condition, in percent."""
    scores = evaluation.scores
    values = [auroc(scores[detector, "id", condition], scores[detector, o, condition]) for o in scores.ood_sets]
    return 100 * float(np.mean(values))


def attacks(names: list[str], epsilon: float) -> Iterator[tuple[str, Attack | ScoreAttack]]:
    """Yield the attacks to compare."""
    for name in names:
        if name == "paper":
            yield name, PGD(epsilon=epsilon, steps=10)
        else:
            yield name, Strong(epsilon=epsilon, preset=name)  # type: ignore[arg-type]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.strong_attack", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--golden", type=Path, required=True)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[1.0, 2.0])
    parser.add_argument("--attacks", nargs="+", default=["paper", "quick", "standard"])
    parser.add_argument("--detectors", nargs="+", choices=list(DETECTORS), default=["msp", "odin"])
    parser.add_argument("--id", type=int, default=400)
    parser.add_argument("--ood", type=int, default=200)
    parser.add_argument("--small", type=Path, help="weights of a small net in place of the robust CNN")
    parser.add_argument("--members", action="store_true", help="print each member's gain, too")
    options = parser.parse_args()
    net = small_net(options.small) if options.small else robust_cnn(options.golden / "robust_cnn_cifar10.npz")
    id_set, ood_sets = image_sets(options.data, options.id, options.ood)
    counter = Counter(net)
    detectors = {name: DETECTORS[name] for name in options.detectors}
    count = len(id_set) + sum(len(images) for images in ood_sets.values())
    print("| epsilon | attack |" + "".join(f" {name} |" for name in detectors) + " gradients an image | ms an image |")
    print("|--:|:--|" + "--:|" * (len(detectors) + 2))
    for epsilon in options.epsilons:
        for name, attack in attacks(options.attacks, epsilon):
            counter.with_gradient = counter.without = 0
            begun = time.perf_counter()
            settings = EvaluationSettings(classifier=False)
            evaluation = evaluate(net, detectors, id_set, ood_sets, attack, settings)
            seconds = time.perf_counter() - begun
            values = "".join(f" {mean_auroc(evaluation, detector, 'attacked'):.1f} |" for detector in detectors)
            gradients = counter.with_gradient / count
            print(f"| {epsilon:g} | {name} |{values} {gradients:.0f} | {1000 * seconds / count:.1f} |", flush=True)
            if options.members and isinstance(attack, ScoreAttack):
                for detector in detectors:
                    for ood in list(ood_sets)[:1]:
                        print(detector, ood, *evaluation.ensemble.gains(detector, ood), sep="\n  ", flush=True)
                        print(*evaluation.ensemble.flags(detector, ood), sep="\n  ", flush=True)


if __name__ == "__main__":
    main()
