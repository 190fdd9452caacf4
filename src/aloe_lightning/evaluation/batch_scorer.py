"""Attack and score a batch for every detector; one attack for each distinct loss."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aloe_lightning.attacks import Attack, ImageSeeds, Membership, ScoreAttack, uniform_start
from aloe_lightning.data import ImageSet
from aloe_lightning.detectors import Fitted, ForwardPass
from aloe_lightning.evaluation.ensemble import EnsembleKey, ensemble_arrays
from aloe_lightning.evaluation.examples import Examples, furthest, threshold_of
from aloe_lightning.evaluation.scores import Array, Condition, ScoreKey
from aloe_lightning.losses import cross_entropy
from aloe_lightning.runtime.seeding import generator

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class EvaluationSet:
    """A test set, and the noise from which the attack on each image starts.

    Attributes:
        name: `id`, or the name of an OOD test set.
        membership: `id` or `ood`.
        images: the images; labels are used only for in-distribution sets.
        initial_noise: noise in [-1, 1] of the images' shape.
        seed: seed of all other randomness of an attack.
    """

    name: str
    membership: Membership
    images: ImageSet
    initial_noise: Tensor
    seed: int = 0

    @classmethod
    def with_seeded_noise(cls, name: str, membership: Membership, images: ImageSet, seed: int) -> "EvaluationSet":
        """Draw the noise as a function of seed, name and position in the set."""
        noise = uniform_start(images.images.shape, generator(seed, "start", name), like=torch.empty(0))
        return cls(name, membership, images, noise, seed)

    @property
    def labels(self) -> Tensor | None:
        """Classes of in-distribution images, int64 (N,)."""
        return self.images.labels if self.membership == "id" else None


@dataclass(frozen=True)
class BatchScores:
    """Scores of a batch of one test set.

    Attributes:
        indices: positions of the images in the set, (n,).
        scores: float64 (n,) by detector and condition, higher = more in-distribution.
        correct: whether the net predicts each image's label, bool (n,), `clean` and `misclassified`; empty without
            labels.
        ensemble: of an attack on the scores themselves, float64 (n,): see `EnsembleKey`.
        examples: the images that the attack moved furthest across the threshold, by detector.
    """

    indices: NDArray[np.int64]
    scores: dict[ScoreKey, Array]
    correct: dict[Condition, BoolArray]
    ensemble: dict[EnsembleKey, Array] = field(default_factory=dict)
    examples: dict[str, Examples] = field(default_factory=dict)

    @classmethod
    def concatenate(cls, batches: Sequence["BatchScores"]) -> "BatchScores":
        """Concatenate the batches of one test set in the order of the set."""
        indices = np.concatenate([batch.indices for batch in batches])
        order = np.argsort(indices)
        scores = {key: np.concatenate([batch.scores[key] for batch in batches])[order] for key in batches[0].scores}
        correct = {key: np.concatenate([batch.correct[key] for batch in batches])[order] for key in batches[0].correct}
        parts = batches[0].ensemble
        ensemble = {key: np.concatenate([batch.ensemble[key] for batch in batches])[order] for key in parts}
        found = dict.fromkeys(name for batch in batches for name in batch.examples)
        examples = {
            name: Examples.concatenate(batch.examples[name] for batch in batches if name in batch.examples)
            for name in found
        }
        return cls(indices[order], scores, correct, ensemble, examples)


@dataclass(frozen=True)
class BatchScorer:
    """Scores batches clean, after the attack on each detector, and after the attack on the classifier.

    Attributes:
        net: images -> logits, frozen by `frozen_eval`.
        fitted: detectors of the net by name.
        attack: the attack; it maximises the loss given by each detector, or attacks the scores themselves.
        attacks_classifier: attack the classifier, too, by maximising the cross-entropy (condition `misclassified`);
            only on in-distribution images with labels.
        bf16: run the net in bfloat16.
        num_examples: images of a batch that are kept as examples for each detector.
        thresholds: thresholds of 95 % TPR on clean in-distribution images by detector; for a detector without one, that
            of the batch, whose images are then in-distribution.
    """

    net: nn.Module
    fitted: Mapping[str, Fitted]
    attack: Attack | ScoreAttack
    attacks_classifier: bool = True
    bf16: bool = False
    num_examples: int = 0
    thresholds: Mapping[str, float] = field(default_factory=dict)

    def __call__(self, dataset: EvaluationSet, indices: Tensor) -> BatchScores:
        """Score the images at these indices (n,)."""
        device = next(self.net.parameters()).device
        images = dataset.images.take(indices).to(device).float().div_(255)
        start = dataset.initial_noise[indices].to(device)
        labels = None if dataset.labels is None else dataset.labels[indices].to(device)
        result = BatchScores(indices.numpy(), {}, {})
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            self._score(images, self.fitted, labels, dataset.name, "clean", result)
            if isinstance(self.attack, ScoreAttack):
                self._attack_scores(images, dataset, start, result)
            else:
                for group in self._attack_groups.values():
                    loss = next(iter(group.values())).loss(dataset.membership)
                    attacked = self.attack(images, loss, start=start)
                    self._score(attacked, group, None, dataset.name, "attacked", result)
                    self._keep_examples(group, dataset, attacked, result)
            if labels is not None and self.attacks_classifier:
                attacked = self.attack(images, lambda x: cross_entropy(self.net(x), labels), start=start)
                self._score(attacked, self.fitted, labels, dataset.name, "misclassified", result)
        return result

    @cached_property
    def _attack_groups(self) -> dict[tuple[str, str], dict[str, Fitted]]:
        """Groups of detectors that are attacked by the same loss."""
        groups: dict[tuple[str, str], dict[str, Fitted]] = {}
        for name, detector in self.fitted.items():
            key = ("detector", name) if detector.attack_key is None else ("shared", detector.attack_key)
            groups.setdefault(key, {})[name] = detector
        return groups

    def _attack_scores(self, images: Tensor, dataset: EvaluationSet, start: Tensor, result: BatchScores) -> None:
        """Attack each detector through its own score, and add the worst scores to the result."""
        assert isinstance(self.attack, ScoreAttack)
        names = {name: ScoreKey(name, dataset.name, "clean") for name in self.fitted}
        worst = self.attack.attack_scores(
            images,
            {name: detector.target(dataset.membership) for name, detector in self.fitted.items()},
            clean_scores={name: torch.from_numpy(result.scores[key]).to(images.device) for name, key in names.items()},
            start=start,
            seeds=ImageSeeds((dataset.seed, dataset.name), result.indices.tolist()),
        )
        for name, case in worst.items():
            result.scores[ScoreKey(name, dataset.name, "attacked")] = case.score.cpu().double().numpy()
            result.ensemble.update(ensemble_arrays(name, dataset.name, case))
            self._keep_examples([name], dataset, case.images, result)

    def _keep_examples(
        self, detectors: Iterable[str], dataset: EvaluationSet, attacked: Tensor, result: BatchScores
    ) -> None:
        """Add the images (n, 3, H, W) that moved furthest across the threshold of each detector to the result."""
        for name in detectors if self.num_examples else ():
            clean, worst = (result.scores[ScoreKey(name, dataset.name, c)] for c in ("clean", "attacked"))
            threshold = self.thresholds[name] if name in self.thresholds else threshold_of(clean)
            chosen = furthest(clean, worst, threshold, dataset.membership)[: self.num_examples]
            positions = result.indices[chosen]
            result.examples[name] = Examples(
                dataset=np.full(len(chosen), dataset.name),
                position=positions,
                clean=dataset.images.take(torch.from_numpy(positions)).numpy(),
                attacked=attacked[torch.from_numpy(chosen).to(attacked.device)].float().cpu().numpy(),
                clean_score=clean[chosen],
                attacked_score=worst[chosen],
                threshold=np.full(len(chosen), threshold),
            )

    @torch.no_grad()
    def _score(
        self,
        images: Tensor,
        fitted: Mapping[str, Fitted],
        labels: Tensor | None,
        dataset: str,
        condition: Condition,
        result: BatchScores,
    ) -> None:
        """Add the scores of the images under one condition to the result; one forward pass serves all detectors."""
        needs_gradient = any(detector.needs_input_gradient for detector in fitted.values())
        forward_pass = ForwardPass(self.net, images, needs_input_gradient=needs_gradient)
        for name, detector in fitted.items():
            result.scores[ScoreKey(name, dataset, condition)] = detector.score(forward_pass).cpu().double().numpy()
        if labels is not None:
            result.correct[condition] = (forward_pass.logits.argmax(1) == labels).cpu().numpy()
