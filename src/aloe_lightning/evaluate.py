"""Net x detectors x test sets -> scores, clean and attacked; each image is attacked once, scored by every detector."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed import all_gather_object

from aloe_lightning.attacks import ConfidenceAttack, Membership, attackable, uniform_start
from aloe_lightning.data import ImageSet, process
from aloe_lightning.detectors import Detector, ScoreFn
from aloe_lightning.errors import UserError
from aloe_lightning.progress import track
from aloe_lightning.randomness import generator

State = Literal["clean", "attacked"]
Scores = NDArray[np.float64]
Columns = dict[str, NDArray[Any]]
"""Values of a batch or a set by name, each (N,)."""


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """How an evaluation is run.

    Attributes:
        batch_size: images per forward pass; the results do not depend on it.
        max_id: in-distribution test images drawn by a fixed seed; None for all.
        max_ood: likewise for each OOD set.
        bf16: run the net in bfloat16; losses and scores stay in float32 or better.
    """

    batch_size: int = 200
    max_id: int | None = None
    max_ood: int | None = None
    bf16: bool = False


@dataclass(frozen=True)
class SetScores:
    """Scores of one test set in its own order.

    Attributes:
        scores: detector name -> state -> (N,) float64, higher = more in-distribution.
        correct: share of clean images classified right, in [0, 1]; None without labels.
    """

    scores: dict[str, dict[State, Scores]]
    correct: float | None

    def __len__(self) -> int:
        return len(next(iter(self.scores.values()))["clean"])


@dataclass(frozen=True)
class Evaluation:
    """Scores of the in-distribution test set and of each OOD test set by name."""

    id: SetScores
    ood: dict[str, SetScores]


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
) -> Evaluation:
    """Score every test set clean and attacked; in-distribution images are attacked to look OOD and the reverse.

    With several processes each takes a share of every set, none dropped or doubled, and all get the whole result.

    Args:
        net: images -> logits; put in eval mode for the duration.
        detectors: by name.
        id_set: in-distribution test images with labels.
        ood_sets: OOD test images by name.
        attack: Algorithm 1.
        settings: batch size, subsets, precision.
        seed: of the attack's random starts; an image's start depends on seed, set and place only.
        label: shown before the progress.
    """
    device = next(net.parameters()).device

    def score_set(name: str, image_set: ImageSet, membership: Membership) -> SetScores:
        rank, world = process()
        mine = torch.arange(rank, len(image_set), world)
        starts = uniform_start(image_set.images.shape, generator(seed, "start", name), torch.empty(0))

        def batches() -> Iterator[Columns]:
            for indices in torch.split(mine, settings.batch_size):
                images = image_set.take(indices).to(device).float().div_(255)
                with torch.autocast(device.type, torch.bfloat16, enabled=settings.bf16):
                    attacked = attack(net, images, membership, starts[indices].to(device))
                    columns = _score(net, score_fns, {"clean": images, "attacked": attacked})
                yield {"index": indices.numpy(), **columns}

        steps = batches()
        if rank == 0:
            steps = track(steps, len(mine), f"{label} attacking {name}".strip(), step=settings.batch_size)
        columns = _in_order(list(steps), world)
        return _set_scores(name, list(score_fns), columns, image_set.labels)

    with attackable(net):
        score_fns = {name: detector.fit(net) for name, detector in detectors.items()}
        return Evaluation(
            score_set("id", id_set, "id"), {name: score_set(name, images, "ood") for name, images in ood_sets.items()}
        )


@torch.no_grad()
def _score(net: nn.Module, score_fns: Mapping[str, ScoreFn], images: Mapping[State, Tensor]) -> Columns:
    """`detector/state` -> scores of a batch, and the classes that the net gives its clean images."""
    columns: Columns = {"class": net(images["clean"]).argmax(1).cpu().numpy()}
    for detector, score in score_fns.items():
        for state, x in images.items():
            columns[f"{detector}/{state}"] = score(x).cpu().double().numpy()
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
        clean, attacked = columns[f"{detector}/clean"], columns[f"{detector}/attacked"]
        if not (np.isfinite(clean).all() and np.isfinite(attacked).all()):
            raise UserError(f"{detector} gives scores on {name} that are not finite: has the training diverged?")
        scores[detector] = {"clean": clean, "attacked": attacked}
    correct = None if labels is None else float((columns["class"] == labels.numpy()).mean())
    return SetScores(scores, correct)
