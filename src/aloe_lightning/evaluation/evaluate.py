"""Evaluation of a net: detectors x test sets x conditions -> scores, on any number of processes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed import all_gather_object

from aloe_lightning.attacks import Attack, ScoreAttack, frozen_eval
from aloe_lightning.data import ImageSet
from aloe_lightning.detectors import Detector, FitData, Fitted
from aloe_lightning.errors import UserError
from aloe_lightning.evaluation.batch_scorer import BatchScorer, BatchScores, EvaluationSet
from aloe_lightning.evaluation.ensemble import Ensemble
from aloe_lightning.evaluation.examples import Examples, Furthest, Side, threshold_of
from aloe_lightning.evaluation.resume import scored_once
from aloe_lightning.evaluation.scores import ScoreKey, Scores
from aloe_lightning.runtime.distributed import rank_and_world_size
from aloe_lightning.runtime.progress import progress_display
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import NO_EFFECT, NonNegativeInt, PositiveInt
from aloe_lightning.storage.batches import BatchStore


@checked
@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """Settings of an evaluation.

    Attributes:
        batch_size: images per forward pass; null for 200 on a CPU and 2,000 on a GPU. It is halved when memory runs
            out.
        max_id: number of in-distribution test images, drawn by a fixed seed; null for all.
        max_ood: number of images of each OOD test set, drawn by a fixed seed; null for all.
        bf16: run the net in bfloat16; losses and scores stay in float32 or better.
        classifier: attack the classifier on the in-distribution images, too (Tables 2 and 4).
        examples: number of attacked images that are kept for each detector and side, for pictures in the report: those
            whose score moved furthest across the threshold.
    """

    batch_size: Annotated[PositiveInt | None, NO_EFFECT] = None
    max_id: PositiveInt | None = None
    max_ood: PositiveInt | None = None
    bf16: bool = False
    classifier: bool = True
    examples: Annotated[NonNegativeInt, NO_EFFECT] = 3


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Results of an evaluation.

    Attributes:
        scores: scores of every detector on every test set.
        accuracy: share of clean in-distribution images classified correctly, in [0, 1]; None without labels.
        robust_accuracy: the same after the attack on the classifier; None without that attack.
        fitted: the fitted detectors by name.
        ensemble: of an attack on the scores themselves, its members and flags; empty for other attacks.
        examples: the attacked images whose score moved furthest across the threshold of 95 % TPR on clean
            in-distribution images, by detector and side; OOD images are of all test sets together. In-distribution
            images are first chosen within their batch, by the threshold of the batch.
    """

    scores: Scores
    accuracy: float | None = None
    robust_accuracy: float | None = None
    fitted: Mapping[str, Fitted] = field(default_factory=dict)
    ensemble: Ensemble = field(default_factory=Ensemble)
    examples: Mapping[tuple[str, Side], Examples] = field(default_factory=dict)


def evaluate(
    net: nn.Module,
    detectors: Mapping[str, Detector],
    id_set: ImageSet,
    ood_sets: Mapping[str, ImageSet],
    attack: Attack | ScoreAttack,
    settings: EvaluationSettings,
    *,
    seed: int = 0,
    label: str | None = "",
    data: FitData | None = None,
    store: BatchStore | None = None,
) -> Evaluation:
    """Score every test set clean and attacked; in-distribution images are attacked to look OOD and vice versa.

    Several processes divide every set among them without dropping or repeating images; all return the whole result.

    Args:
        net: images -> logits; put in eval mode for the duration.
        detectors: detectors by name.
        id_set: in-distribution test images with labels.
        ood_sets: OOD test images by name.
        attack: the attack; it maximises the loss given by each detector, and the cross-entropy of the classifier. A
            `ScoreAttack` attacks each detector through its own score instead.
        settings: batch size, subsets, precision.
        seed: random seed of the initial noise, which depends only on seed, set and position of an image.
        label: prefix of the progress display; None for no display.
        data: images to fit detectors on, for those that require it.
        store: keeps the scores of each batch, so that an interrupted evaluation continues.

    Raises:
        UserError: if a score is not finite.
    """
    device = next(net.parameters()).device
    size = settings.batch_size or (2000 if device.type == "cuda" else 200)
    id_images = EvaluationSet.with_seeded_noise("id", "id", id_set, seed)
    with frozen_eval(net):
        fitted = {name: detector.fit(net, data) for name, detector in detectors.items()}
        scorer = BatchScorer(net, fitted, attack, settings.classifier, settings.bf16, settings.examples)
        score = partial(_score_set, store or BatchStore(None, {}), size, label, Furthest(settings.examples))
        id_scores = score(scorer, id_images)
        scores, ensemble = dict(id_scores.scores), dict(id_scores.ensemble)
        thresholds = {name: threshold_of(scores[ScoreKey(name, "id", "clean")]) for name in fitted}
        scorer = replace(scorer, thresholds=thresholds)
        candidates: dict[tuple[str, Side], list[Examples]] = {(k, "id"): [v] for k, v in id_scores.examples.items()}
        for name, images in ood_sets.items():
            ood_scores = score(scorer, EvaluationSet.with_seeded_noise(name, "ood", images, seed))
            scores |= ood_scores.scores
            ensemble |= ood_scores.ensemble
            for detector, examples in ood_scores.examples.items():
                candidates.setdefault((detector, "ood"), []).append(examples)
    accuracies = {condition: float(correct.mean()) for condition, correct in id_scores.correct.items()}
    return Evaluation(
        scores=Scores(scores),
        accuracy=accuracies.get("clean"),
        robust_accuracy=accuracies.get("misclassified"),
        fitted=fitted,
        ensemble=Ensemble(ensemble),
        examples={
            (detector, side): Examples.concatenate(parts).furthest(settings.examples, side, thresholds[detector])
            for (detector, side), parts in candidates.items()
        },
    )


def _score_set(
    store: BatchStore, size: int, label: str | None, furthest: Furthest, scorer: BatchScorer, dataset: EvaluationSet
) -> BatchScores:
    """Score a test set on all processes; each returns the scores of the whole set."""
    rank, world_size = rank_and_world_size()
    indices = torch.arange(rank, len(dataset.images), world_size)
    title = None if rank or label is None else f"{label} attacking {dataset.name}".strip()
    batches = list(batched_with_oom_retry(partial(scored_once, scorer, dataset, store, furthest), indices, size, title))
    if world_size > 1:
        gathered: list[list[BatchScores]] = [[] for _ in range(world_size)]
        all_gather_object(gathered, batches)
        batches = [batch for process_batches in gathered for batch in process_batches]
    result = BatchScores.concatenate(batches)
    for key, scores in result.scores.items():
        if not np.isfinite(scores).all():
            raise UserError(
                f"{key.detector} gives scores on {key.dataset} that are not finite: the training may have diverged"
            )
    return result


def batched_with_oom_retry(
    work: Callable[[Tensor], BatchScores], indices: Tensor, size: int, title: str | None
) -> Iterator[BatchScores]:
    """Yield the results of work on consecutive batches of indices; halve the batch size whenever memory runs out.

    Args:
        work: indices (n,) -> result.
        indices: all indices, (N,).
        size: size of the first batches.
        title: title of the progress display; None for no display.

    Raises:
        torch.OutOfMemoryError: if the memory does not hold a batch of one.
    """
    display = None if title is None else progress_display(title, len(indices), "images")
    done = 0
    try:
        while done < len(indices):
            batch = indices[done : done + size]
            try:
                result = work(batch)
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
                size = (size + 1) // 2
                torch.cuda.empty_cache()
                continue
            done += len(batch)
            yield result
            if display is not None:
                display.update(done)
    finally:
        if display is not None:
            display.close()
