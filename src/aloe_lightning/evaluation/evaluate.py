"""Net x detectors x test sets -> scores, clean and attacked; each image is attacked once, scored by every detector."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed import all_gather_object

from aloe_lightning.attacks import AttackLoss, ConfidenceAttack, Membership, frozen_eval, uniform_start
from aloe_lightning.data import ImageSet
from aloe_lightning.detectors import Detector, FitData, Fitted, ForwardPass
from aloe_lightning.errors import UserError
from aloe_lightning.losses import cross_entropy
from aloe_lightning.runtime.distributed import rank_and_world_size
from aloe_lightning.runtime.progress import meter
from aloe_lightning.runtime.seeding import generator

State = Literal["clean", "attacked", "misclassified"]
"""`attacked`: by the attack on the detector; `misled`: in-distribution images attacked to be misclassified."""

STATES: tuple[State, ...] = ("clean", "attacked", "misclassified")
Scores = NDArray[np.float64]
Columns = dict[str, NDArray[Any]]
"""Values of a batch or a set by name, each (N,)."""


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """How an evaluation is run.

    Attributes:
        batch_size: images per forward pass; the results do not depend on it. None for 200 on a CPU, and on a GPU for
            2,000 or as many as its memory holds.
        max_id: in-distribution test images drawn by a fixed seed; None for all.
        max_ood: likewise for each OOD set.
        bf16: run the net in bfloat16; losses and scores stay in float32 or better.
        classifier: attack the classifier on the in-distribution images, too (Tables 2 and 4).
    """

    batch_size: int | None = None
    max_id: int | None = None
    max_ood: int | None = None
    bf16: bool = False
    classifier: bool = True


@dataclass(frozen=True)
class SetScores:
    """Scores of one test set in its own order.

    Attributes:
        scores: detector name -> state -> (N,) float64, higher = more in-distribution.
        correct: share of clean images classified right, in [0, 1]; None without labels.
        robust: the same after the attack on the classifier; None where it was not attacked.
    """

    scores: dict[str, dict[State, Scores]]
    correct: float | None
    robust: float | None = None

    def __len__(self) -> int:
        return len(next(iter(self.scores.values()))["clean"])


@dataclass(frozen=True)
class Evaluation:
    """Scores of the in-distribution test set and of each OOD test set by name, and the detectors that gave them."""

    id: SetScores
    ood: dict[str, SetScores]
    fitted: Mapping[str, Fitted] = field(default_factory=dict)


def evaluate(
    net: nn.Module,
    detectors: Mapping[str, Detector],
    id_set: ImageSet,
    ood_sets: Mapping[str, ImageSet],
    attack: ConfidenceAttack,
    settings: EvaluationSettings,
    *,
    seed: int = 0,
    label: str = "",
    data: FitData | None = None,
) -> Evaluation:
    """Score every test set clean and attacked; in-distribution images are attacked to look OOD and the reverse.

    Each image is attacked once for all detectors that the paper attacks by the same loss.

    With several processes each takes a share of every set, none dropped or doubled, and all get the whole result.

    Args:
        net: images -> logits; put in eval mode for the duration.
        detectors: by name.
        id_set: in-distribution test images with labels.
        ood_sets: OOD test images by name.
        attack: how detectors (and the classifier) are attacked; each detector says by what loss.
        settings: batch size, subsets, precision.
        seed: of the attack's random starts; an image's start depends on seed, set and place only.
        label: shown before the progress.
        data: what detectors that learn are fitted on.
    """
    device = next(net.parameters()).device
    size = settings.batch_size or (2000 if device.type == "cuda" else 200)

    def score_set(name: str, image_set: ImageSet, membership: Membership) -> SetScores:
        rank, world = rank_and_world_size()
        mine = torch.arange(rank, len(image_set), world)
        misleads = settings.classifier and membership == "id" and image_set.labels is not None
        starts = uniform_start(image_set.images.shape, generator(seed, "start", name), torch.empty(0))

        def scored(indices: Tensor) -> Columns:
            images = image_set.take(indices).to(device).float().div_(255)
            start = starts[indices].to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=settings.bf16):
                crafted = {name: attack(net, images, membership, start, loss) for name, loss in losses.items()}
                columns = _scored(ForwardPass(net, images), fitted, "clean")
                for key, attacked in crafted.items():
                    theirs = {name: one for name, one in fitted.items() if _crafted(name, one) == key}
                    columns |= _scored(ForwardPass(net, attacked), theirs, "attacked")
                if misleads:
                    assert image_set.labels is not None
                    wrong = classifier_loss(net, image_set.labels[indices].to(device))
                    columns |= _scored(
                        ForwardPass(net, attack(net, images, "id", start, wrong)), fitted, "misclassified"
                    )
            return {"index": indices.numpy(), **columns}

        title = f"{label} attacking {name}".strip() if rank == 0 else None
        columns = _in_order(list(_as_fits(mine, size, scored, title)), world)
        return _set_scores(name, list(fitted), columns, image_set.labels)

    with frozen_eval(net):
        fitted = {name: detector.fit(net, data if detector.learns else None) for name, detector in detectors.items()}
        losses = {_crafted(name, one): one.loss for name, one in fitted.items()}
        return Evaluation(
            score_set("id", id_set, "id"),
            {name: score_set(name, images, "ood") for name, images in ood_sets.items()},
            fitted,
        )


def _as_fits(indices: Tensor, size: int, work: Callable[[Tensor], Columns], title: str | None) -> Iterator[Columns]:
    """Work of consecutive parts of the indices, in parts half as large whenever the device runs out of memory."""
    shown = None if title is None else meter(title, len(indices), "images")
    done = 0
    try:
        while done < len(indices):
            part = indices[done : done + size]
            try:
                found = work(part)
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
                size = (size + 1) // 2
                torch.cuda.empty_cache()
                continue
            done += len(part)
            yield found
            if shown is not None:
                shown.update(done)
    finally:
        if shown is not None:
            shown.close()


def classifier_loss(net: nn.Module, labels: Tensor) -> AttackLoss:
    """The cross-entropy of the true classes (N,): the attack on the classifier."""
    return lambda images, _: cross_entropy(net(images), labels)


def _crafted(name: str, detector: Fitted) -> str:
    """What names the images that a detector is attacked with: the softmax's are shared, others are its own."""
    return detector.crafted if detector.crafted == "softmax" else f"{detector.crafted} of {name}"


@torch.no_grad()
def _scored(batch: ForwardPass, fitted: Mapping[str, Fitted], state: State) -> Columns:
    """`detector/state` -> scores of a batch; `class/state` -> the classes of images that are to be classified."""
    in_turn = sorted(fitted.items(), key=lambda item: not item[1].steps)
    columns = {f"{name}/{state}": one.score(batch).cpu().double().numpy() for name, one in in_turn}
    if state != "attacked":
        columns[f"class/{state}"] = batch.logits.argmax(1).cpu().numpy()
    return columns


def _in_order(batches: list[Columns], world: int) -> Columns:
    """All batches of all processes as one, in the order of the set."""
    if world > 1:
        gathered: list[list[Columns]] = [[] for _ in range(world)]
        all_gather_object(gathered, batches)
        batches = [batch for part in gathered for batch in part]
    columns = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
    order = np.argsort(columns["index"])
    return {key: values[order] for key, values in columns.items()}


def _set_scores(name: str, detectors: list[str], columns: Columns, labels: Tensor | None) -> SetScores:
    scores: dict[str, dict[State, Scores]] = {}
    for detector in detectors:
        found = {state: columns[f"{detector}/{state}"] for state in STATES if f"{detector}/{state}" in columns}
        if not all(np.isfinite(values).all() for values in found.values()):
            raise UserError(f"{detector} gives scores on {name} that are not finite: has the training diverged?")
        scores[detector] = found

    def share(column: str) -> float | None:
        if labels is None or column not in columns:
            return None
        return float((columns[column] == labels.numpy()).mean())

    return SetScores(scores, share("class/clean"), share("class/misclassified"))
