"""The evaluation of a given net or score: clean, then attacked, batch by batch."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from aloe_lightning.attacks import Attack, Norm, ScoreAttack
from aloe_lightning.errors import UserError
from aloe_lightning.evaluation.ensemble import Ensemble
from aloe_lightning.evaluation.records import Side
from aloe_lightning.evaluation.scores import ScoreKey, Scores
from aloe_lightning.metrics import auroc
from aloe_lightning.nets.saved import sizes_of
from aloe_lightning.robustness.arguments import (
    ball_of,
    check_names,
    check_numbers,
    l2_mistake,
    object_text,
    reversed_score,
)
from aloe_lightning.robustness.attack import BatchAttack, Guarantee, attack_of, kind_of
from aloe_lightning.robustness.images import Data, Images, images_of
from aloe_lightning.robustness.passes import Passes, accuracy_text, chance_warning, size_text, use_of_labels
from aloe_lightning.robustness.result import Result
from aloe_lightning.robustness.scores import (
    Detectors,
    detectors_of,
    fit_data,
    fitted_detectors,
    require_no_log_probabilities,
    require_size,
    settings_text,
)
from aloe_lightning.robustness.subject import in_pixels, subject_of
from aloe_lightning.signatures.types import unit_mistake
from aloe_lightning.storage.batches import BatchStore, digest_of_net
from aloe_lightning.storage.cache import content_hash

SETTINGS_VERSION = 3
"""Part of the key of stored batches: increase it when the same settings give other scores."""


def evaluate(
    net_or_score: Any,
    id_data: Data,
    ood_data: Mapping[str, Data],
    *,
    detectors: Detectors = ("msp",),
    eps: float = 1,
    norm: Norm = "linf",
    preset: str = "standard",
    attack: Attack | ScoreAttack | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    size: int | None = None,
    num_classes: int | None = None,
    train: Data | None = None,
    outliers: Data | None = None,
    sides: Sequence[Side] = ("none", "id", "ood", "both"),
    seed: int = 0,
    batch_size: int | None = None,
    folder: str | Path | None = None,
    name: str | None = None,
    verbose: bool = True,
) -> Result:
    """Attack the detectors of a net, or a score, and return how well they tell ID from OOD images, clean and attacked.

    Args:
        net_or_score: images to logits (N, K), or a differentiable score (N,), higher = more in-distribution; decided by
            the output for the first images.
        id_data: in-distribution test images, see `Data`; the clean accuracy needs their labels.
        ood_data: OOD test images by name.
        detectors: detectors of the net, by name (`msp`, `odin`, `energy`, `max_logit`, `mahalanobis_last`, `knn`,
            `vim`, `react`, `mahalanobis`) or objects; a score function is its own detector.
        eps: radius of the ball in 1/255 pixel steps; for norm l2 also in 1/255, the radius 0.5 is eps=127.5.
        norm: `linf` or `l2`.
        preset: attack on each detector: `paper` (Algorithm 1), or the worst case of an ensemble through the detector's
            own score, `quick`, `standard` or `extreme`.
        attack: an attack of one's own instead of the preset; its attribute `epsilon` is its budget in 1/255, its
            attribute `norm` (or else norm=) says in which norm, and eps is not used. Images outside this ball or
            outside [0, 1] are an error.
        mean: channel means of the normalisation that the net expects, in [0, 1]; None if it takes pixels.
        std: channel standard deviations, likewise.
        size: height and width that images are resized to; None for that of the net, if it states one, or of the images.
        num_classes: required number of logits.
        train: training images with labels, for detectors that are fitted.
        outliers: auxiliary outliers, for `mahalanobis`.
        sides: attacked sides: `none`, `id`, `ood`, `both`.
        seed: random seed of the attack's starts and of the choice of training images.
        batch_size: images per forward pass.
        folder: folder of the results of each batch, from which an interrupted evaluation continues.
        name: name of the net in messages and tables; None for its class.
        verbose: print net, size, normalisation, attack and clean accuracy first.

    Raises:
        UserError: if pixels are outside [0, 1], sizes differ, the output is no logits or scores, and the like.
    """
    check_names(ood_data, sides)
    check_numbers(eps, norm, size, batch_size, seed)
    named = detectors_of(detectors)
    if attack is None and (mistake := unit_mistake(eps) if norm == "linf" else l2_mistake(eps)):
        raise UserError(f"eps {mistake} by an attack=, such as Strong(epsilon={eps:.4g}, norm={norm!r})")
    maximiser: Any = attack_of(preset, eps, norm) if attack is None else attack
    ball = ball_of(maximiser, norm)
    net = in_pixels(net_or_score, mean, std)[0]
    stated = sizes_of(net)
    size = _size(size, stated)
    probe = next(iter(images_of("id", id_data, size, 1)), None)
    if probe is None:
        raise UserError("id: no images")
    count = batch_size or _default_batch_size(max(probe.images.shape[2:]))
    sets: dict[str, Images] = {
        name: images_of(name, data, size, count) for name, data in {"id": id_data, **ood_data}.items()
    }
    first = next(iter(sets["id"]))
    pixels = tuple(first.images.shape[2:])
    if stated and pixels != tuple(stated):
        raise UserError(
            f"{type(net).__name__} expects images of {size_text(stated)} pixels, id has {size_text(pixels)}: "
            f"give size={stated[0]} to resize them"
        )
    subject = subject_of(net_or_score, first.images[:16], mean, std, num_classes, name)
    say = partial(print, flush=True) if verbose else _silent
    say(f"{subject.description}\nimages: {size_text(pixels)} pixels\nnormalisation: {subject.normalisation}")
    fitting = {
        name: images_of(name, data, size or (pixels[0] if pixels[0] == pixels[1] else None), count)
        for name, data in {"train": train, "outliers": outliers}.items()
        if data is not None
    }
    require_size(fitting, pixels)
    data = fit_data(fitting.get("train"), fitting.get("outliers"), subject.num_classes, seed, count)
    require_no_log_probabilities(subject, named, first.images[:16])
    fitted = fitted_detectors(subject, named, data)
    scorer = BatchAttack(subject, fitted, maximiser, ball)
    settings: dict[str, Any] = {
        "net": subject.name,
        "output": subject.kind,
        "num_classes": subject.num_classes,
        "normalisation": subject.normalisation,
        "size": size_text(pixels),
        "epsilon": float(maximiser.epsilon),
        "norm": ball.norm,
        "preset": preset if attack is None else "given",
        "attack": maximiser.describe(),
        "kinds": {name: kind_of(maximiser, detector) for name, detector in fitted.items()},
        "detectors": {name: settings_text(detector) for name, detector in named.items()}
        if subject.kind == "logits"
        else {},
        "seed": seed,
        "weights": digest_of_net(net),
    }
    say(f"attack: {settings['norm']}, epsilon {settings['epsilon']:g}/255, {settings['attack']}")
    store = BatchStore(folder, {**settings, **_of_store(attack, count)})
    guarantee = Guarantee.of(subject, named, settings["norm"], settings["epsilon"])
    run = Passes(scorer, store, pixels, seed, guarantee)
    run.clean("id", sets["id"])
    accuracy, labelled, remark = use_of_labels(run.labels, run.predictions, sets["id"], subject.num_classes)
    say(f"clean accuracy: not known, {remark}" if accuracy is None else accuracy_text(accuracy, labelled))
    if accuracy is not None and subject.num_classes is not None:
        remark = chance_warning(accuracy, labelled, subject.num_classes)
        if remark:
            say(f"warning: {remark}")
    for name in ood_data:
        run.clean(name, sets[name])
    reversals = [warning for warning in map(partial(_reversal, run, list(ood_data)), fitted) if warning]
    for warning in reversals:
        say(f"warning: {warning}")
    if {"id", "both"} & set(sides):
        run.attacked("id", sets["id"], "id")
    for name in ood_data if {"ood", "both"} & set(sides) else ():
        run.attacked(name, sets[name], "ood")
    members, flags = Ensemble(run.members).summary()
    notes = [
        remark,
        *reversals,
        *(flag for raised in flags.values() for flag in raised),
        *(images.note for images in (*sets.values(), *fitting.values())),
    ]
    result = Result(
        scores=Scores(run.scores),
        accuracy=accuracy,
        labelled=labelled,
        sides=list(sides),
        settings={
            **settings,
            "counts": run.counts,
            "pixels": content_hash(sorted(run.data_digests().items())),
            "data": run.data_digests(),
            "members": members,
            "flags": flags,
        },
        notes=[note for note in notes if note],
    )
    return replace(result, notes=[*result.notes, *guarantee.notes(result.numbers)])


def _silent(*_: Any, **__: Any) -> None:
    """Print nothing."""


def _of_store(attack: Any, count: int) -> dict[str, Any]:
    """Return what stored batches depend on beside the settings of a result."""
    own = {} if attack is None else {"given": object_text(attack)}
    return {"version": SETTINGS_VERSION, "batch_size": count, **own}


def _reversal(run: Passes, ood: Sequence[str], detector: str) -> str:
    """Return a warning if a detector's clean scores point the wrong way; else ""."""
    clean = [run.scores[ScoreKey(detector, name, "clean")] for name in ("id", *ood)]
    return reversed_score(detector, [auroc(clean[0], values) for values in clean[1:]])


def _size(size: int | None, stated: Sequence[int]) -> int | None:
    """Return the size that images are resized to; that of the net where none is given."""
    if size is not None and stated and (size, size) != tuple(stated):
        raise UserError(f"the net expects images of {size_text(stated)} pixels (got size={size})")
    return size if size is not None or not stated else int(stated[0])


def _default_batch_size(size: int) -> int:
    """Return as many images as 200 of 32x32 pixels on a CPU, 2,000 on a GPU have pixels, at least 8."""
    count = 2000 if torch.cuda.is_available() else 200
    return max(8, min(count, count * 4 * 32 * 32 // (size * size)))
