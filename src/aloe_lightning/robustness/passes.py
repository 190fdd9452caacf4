"""Passes over the sets of an evaluation, batch by batch, each from the store if computed before; the clean accuracy."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aloe_lightning.attacks import ImageSeeds, Membership
from aloe_lightning.errors import UserError
from aloe_lightning.evaluation.ensemble import EnsembleKey, ensemble_arrays
from aloe_lightning.evaluation.scores import Condition, ScoreKey
from aloe_lightning.robustness.attack import BatchAttack, Guarantee
from aloe_lightning.robustness.images import Batch, FolderImages, Images
from aloe_lightning.runtime.progress import progress_display
from aloe_lightning.storage.batches import BatchStore, SetDigest, digest_of_batch

Classes = NDArray[np.int64]


class Passes:
    """Clean and attacked passes over the sets of one evaluation.

    Args:
        scorer: scores batches.
        store: results of the batches that have been computed.
        pixels: height and width of all images.
        seed: random seed of the attack's starts.
        guarantee: bounds of scores that no attack exceeds.
    """

    def __init__(
        self, scorer: BatchAttack, store: BatchStore, pixels: tuple[int, ...], seed: int, guarantee: Guarantee
    ) -> None:
        self.scorer, self.store, self.pixels, self.seed, self.guarantee = scorer, store, pixels, seed, guarantee
        self.scores: dict[ScoreKey, NDArray[np.float64]] = {}
        self.counts: dict[str, int] = {}
        self.digests: dict[str, list[int]] = {}
        self.data: dict[str, SetDigest] = {}
        self.labels: list[NDArray[np.int64] | None] = []
        self.predictions: list[NDArray[np.int64]] = []
        self.members: dict[EnsembleKey, NDArray[np.float64]] = {}

    def clean(self, name: str, images: Images) -> None:
        """Score a set; of the ID set also remember labels and predictions."""
        parts: list[dict[str, Any]] = []
        self.digests[name], self.data[name] = [], SetDigest()
        for position, batch, digest in self._batches(name, images):
            stored = self.store.read(f"{name}/clean", position, digest)
            if stored is None or (name == "id" and position == 0):
                scores, classes = self.scorer.clean(batch.images)
                fresh = {f"score/{key}": values.numpy() for key, values in scores.items()}
                if name == "id" and position == 0 and self.store.folder is not None:
                    noisy = self.scorer.clean(self._noisy(batch.images))[0]
                    fresh |= {f"noisy/{key}": values.numpy() for key, values in noisy.items()}
                if stored is not None:
                    _require_same_scores(stored, fresh)
                else:
                    stored = fresh | ({} if classes is None else {"predicted": classes.numpy()})
                    self.store.write(f"{name}/clean", position, digest, stored)
            self.digests[name].append(digest)
            self.data[name].update(batch.images, batch.labels if name == "id" else None)
            parts.append(stored)
            if name == "id":
                self.labels.append(None if batch.labels is None else batch.labels.cpu().numpy())
                self.predictions += [stored["predicted"]] if "predicted" in stored else []
        self._add(name, "clean", parts)
        self.counts[name] = sum(len(part[f"score/{next(iter(self.scorer.fitted))}"]) for part in parts)

    def attacked(self, name: str, images: Images, membership: Membership) -> None:
        """Attack a set for every detector and score it."""
        parts, done = [], 0
        display = progress_display(f"attacking {name}", self.counts[name], "images")
        try:
            for position, batch, digest in self._batches(name, images):
                if [digest] != self.digests[name][position : position + 1]:
                    raise UserError(f"{name}: a second pass gives other images: the order or an augmentation is random")
                stored = self.store.read(f"{name}/attacked", position, digest)
                if stored is None:
                    seeds = ImageSeeds((self.seed, name), range(done, done + len(batch.images)))
                    known = {
                        key: torch.from_numpy(
                            self.scores[ScoreKey(key, name, "clean")][done : done + len(batch.images)]
                        )
                        for key in self.scorer.fitted
                    }
                    scores, worst = self.scorer.attacked(batch.images, membership, seeds, known)
                    stored = {f"score/{key}": values.numpy() for key, values in scores.items()}
                    for key, case in worst.items():
                        stored |= {"ensemble/" + "/".join(k): v for k, v in ensemble_arrays(key, name, case)}
                    bounds = self.guarantee(batch.images, membership)
                    stored |= {f"guaranteed/{key}": values.numpy() for key, values in bounds.items()}
                    self.store.write(f"{name}/attacked", position, digest, stored)
                done += len(batch.images)
                parts.append(stored)
                display.update(done)
        finally:
            display.close()
        self._add(name, "attacked", parts)
        for detector in self.guarantee.detectors:
            values = np.concatenate([part[f"guaranteed/{detector}"] for part in parts])
            self.scores[ScoreKey(detector, name, "guaranteed")] = values
        for key in (key for key in parts[0] if key.startswith("ensemble/")):
            values = np.concatenate([part[key] for part in parts])
            self.members[EnsembleKey(*_split_key(key, name))] = values

    def data_digests(self) -> dict[str, str]:
        """Return the SHA-256 of the images of each set; of the ID set, also of its labels."""
        return {name: digest.hexdigest() for name, digest in self.data.items()}

    def _batches(self, name: str, images: Images) -> Iterator[tuple[int, Batch, int]]:
        for position, batch in enumerate(images):
            if tuple(batch.images.shape[2:]) != self.pixels:
                raise UserError(
                    f"{name} has images of {size_text(batch.images.shape[2:])} pixels, id of "
                    f"{size_text(self.pixels)}: give size="
                )
            yield position, batch, digest_of_batch(batch.images, batch.labels)

    def _noisy(self, images: Tensor) -> Tensor:
        """Return images with the noise of the attack's start, on which a changed score shows that agrees on 8 bits."""
        noise = ImageSeeds((self.seed, "id"), range(len(images))).noise(images, "start")
        return self.scorer.ball.start(images, noise)

    def _add(self, name: str, condition: Condition, parts: list[dict[str, Any]]) -> None:
        if not parts:
            raise UserError(f"{name}: no images")
        for detector in self.scorer.fitted:
            values = np.concatenate([part[f"score/{detector}"] for part in parts])
            if not np.isfinite(values).all():
                raise UserError(f"the scores of {detector} on {name} ({condition}) are not finite (nan or inf)")
            self.scores[ScoreKey(detector, name, condition)] = values


def _split_key(key: str, name: str) -> tuple[str, str, str, str]:
    """Split `ensemble/detector/set/kind/name`; a detector's name may contain slashes."""
    head, kind, member = key.removeprefix("ensemble/").rsplit("/", 2)
    return head.removesuffix(f"/{name}"), name, kind, member


def _require_same_scores(stored: Mapping[str, NDArray[Any]], fresh: Mapping[str, NDArray[Any]]) -> None:
    for key, values in fresh.items():
        if not np.allclose(stored[key], values, rtol=1e-4, atol=1e-5 * float(np.abs(values).max())):
            raise UserError(
                f"the stored scores of {key.partition('/')[2]} differ from those of today: the score has changed; "
                "choose another folder="
            )


def size_text(size: Sequence[int]) -> str:
    """Return height and width as `width x height` without spaces."""
    return "x".join(str(side) for side in reversed(tuple(size)))


def use_of_labels(
    labels: Sequence[Classes | None], predictions: Sequence[Classes], images: Images, num_classes: int | None
) -> tuple[float | None, int, str]:
    """Return clean accuracy, number of labelled images, and the reason if labels are not used.

    Raises:
        UserError: if a label is no class of the net.
    """
    if not predictions:
        return None, 0, "a score function predicts no classes"
    given = [part for part in labels if part is not None]
    if len(given) < len(labels):
        return None, 0, "the images have no labels"
    if isinstance(images, FolderImages) and len(images.classes) != num_classes:
        return (
            None,
            0,
            f"the folder has {len(images.classes)} class folders and the net {num_classes} classes",
        )
    truth, predicted = np.concatenate(given), np.concatenate(predictions)
    if num_classes is not None and not (truth.min() >= 0 and truth.max() < num_classes):
        raise UserError(f"id: labels are in {truth.min()}..{truth.max()}, the net has the classes 0..{num_classes - 1}")
    return float((truth == predicted).mean()), len(truth), ""


def accuracy_text(accuracy: float, count: int) -> str:
    """Return the clean accuracy with its 95 % interval, in percent."""
    from aloe_lightning.report.intervals import share_interval

    low, high = share_interval(accuracy, count)
    return f"clean accuracy: {100 * accuracy:.2f} % ({100 * low:.1f} to {100 * high:.1f}) of {count} images"


def chance_warning(accuracy: float, count: int, num_classes: int) -> str:
    """Return a warning if the accuracy is within a tenth of the way from chance to 1, or within chance; else ""."""
    chance = 1 / num_classes
    margin = max(0.1 * (1 - chance), 2 * (chance * (1 - chance) / count) ** 0.5)
    if accuracy > chance + margin:
        return ""
    return (
        f"the clean accuracy of {100 * accuracy:.2f} % is not clearly above chance ({100 * chance:.2f} %): is "
        "normalisation missing or doubled, or are the classes in another order? "
        "The numbers below say nothing before this is right"
    )
