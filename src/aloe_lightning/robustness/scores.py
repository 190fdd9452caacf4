"""Detectors of an evaluation by name, bound to its subject."""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from inspect import isabstract
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aloe_lightning import detectors as room
from aloe_lightning.attacks import LossFn, Membership, frozen_eval
from aloe_lightning.data import MappedImages
from aloe_lightning.detectors import CachedDetector, Detector, FitData, Fitted
from aloe_lightning.errors import UserError
from aloe_lightning.nets import with_features
from aloe_lightning.robustness.images import Images
from aloe_lightning.robustness.passes import size_text
from aloe_lightning.robustness.subject import Subject

Detectors = Sequence[str | Detector] | Mapping[str, Detector] | str
"""Names of detectors, detectors themselves, or detectors by name."""


def known_detectors() -> dict[str, type[Detector]]:
    """Return the detectors of the package by their names in lower case without underscores, such as `maxlogit`."""
    exported = (getattr(room, name) for name in room.__all__)
    classes = [c for c in exported if isinstance(c, type) and issubclass(c, Detector) and not isabstract(c)]
    return {c.__name__.lower(): c for c in classes if c is not CachedDetector}


def detectors_of(given: Detectors) -> dict[str, Detector]:
    """Return detectors by name.

    Raises:
        UserError: if a name is unknown, given twice, or there is none.
    """
    if isinstance(given, Mapping):
        wrong = [name for name, detector in given.items() if not isinstance(detector, Detector)]
        if wrong or not given:
            raise UserError(f"a mapping of detectors gives Detector objects by name, at least one (wrong: {wrong})")
        return dict(given)
    if not isinstance(given, str | Detector | Sequence):
        raise UserError(f"detectors must be names or Detector objects (got {type(given).__name__})")
    result: dict[str, Detector] = {}
    known = known_detectors()
    for item in [given] if isinstance(given, str | Detector) else given:
        if isinstance(item, str) and item.replace("_", "") not in known:
            names = {Path(file.name).stem for file in files("aloe_lightning.conf").joinpath("detector").iterdir()}
            choices = ", ".join(sorted(name for name in names if name.replace("_", "") in known))
            raise UserError(f"no detector is called {item!r}: use {choices}, or a Detector object")
        detector = known[item.replace("_", "")]() if isinstance(item, str) else item
        if not isinstance(detector, Detector):
            raise UserError(f"detectors must be names or Detector objects (got {type(item).__name__})")
        name = item if isinstance(item, str) else detector.title
        if name in result:
            raise UserError(f"two detectors are called {name!r}: give a mapping from names to detectors")
        result[name] = detector
    if not result:
        raise UserError("detectors: at least one is required")
    return result


def require_size(sets: Mapping[str, Images], pixels: tuple[int, ...]) -> None:
    """Raise UserError if the images that detectors are fitted on have another height or width than the test images."""
    for name, images in sets.items():
        first = next(iter(images), None)
        if first is not None and tuple(first.images.shape[2:]) != pixels:
            sizes = f"{size_text(first.images.shape[2:])} and {size_text(pixels)}"
            raise UserError(f"{name} and id have images of different sizes, {sizes} pixels: give size=")


def require_no_log_probabilities(subject: Subject, detectors: Mapping[str, Detector], images: Tensor) -> None:
    """Raise UserError if a detector reads the logsumexp of logits, and that is 0: of log-probabilities it always is."""
    readers = [name for name, detector in detectors.items() if detector.reads_energy]
    if subject.kind != "logits" or not readers:
        return
    with frozen_eval(subject.net), torch.no_grad():
        energies = subject.net(images.to(subject.device)).double().logsumexp(1)
    if float(energies.abs().amax()) < 1e-4:
        raise UserError(
            f"{subject.name} gives log-probabilities, whose energy is 0 on every image, and {', '.join(readers)} read "
            "it: remove the last log-softmax"
        )


def settings_text(detector: Detector) -> str:
    """Return class and settings of a detector, the same text in every process."""
    return f"{type(detector).__qualname__}({', '.join(f'{name}={value!r}' for name, value in vars(detector).items())})"


def fitted_detectors(subject: Subject, detectors: Mapping[str, Detector], data: FitData | None) -> dict[str, Fitted]:
    """Fit the detectors on the subject's net; a score function is the only detector of its own.

    Raises:
        UserError: if a detector requires data that are not given, or something that the net does not have.
    """
    if subject.kind == "score":
        return {subject.name: own_score(subject.net)}
    for name, detector in detectors.items():
        if detector.requires_fit and data is None:
            raise UserError(f"the detector {name} requires training images: give train=")
    net = with_features(subject.net) if any(d.requires_fit for d in detectors.values()) else subject.net
    fitted = {}
    for name, detector in detectors.items():
        try:
            fitted[name] = detector.fit(net, data)
        except UserError as error:
            raise UserError(f"detector {name} on {subject.name}: {error}") from error
        except (RuntimeError, AttributeError, ValueError, TypeError, AssertionError) as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            if "n_splits" in reason[0]:  # scikit-learn's words for too few images of the regression's cross-validation
                reason = ["too few training images or outliers for its regression: give more, or use mahalanobis_last"]
            raise UserError(f"the detector {name} cannot be had on {subject.name}: {reason[0]}") from error
    return fitted


def own_score(net: nn.Module) -> Fitted:
    """Return a score function (N,) as a fitted detector; its attack lowers it on ID and raises it on OOD images."""

    def loss(membership: Membership) -> LossFn:
        sign = -1 if membership == "id" else 1
        return lambda images: sign * net(images)

    return Fitted(net=net, score=lambda batch: batch.logits.double(), loss=loss)


def fit_data(
    train: Images | None, outliers: Images | None, num_classes: int | None, seed: int, size: int
) -> FitData | None:
    """Return the images that detectors may be fitted on, read when a detector asks for them; None without any."""
    if train is None:
        if outliers is not None:
            raise UserError("outliers are given without train: detectors that read outliers read training images, too")
        return None
    copies = cache(_in_file)
    options: dict[str, Any] = {} if outliers is None else {"outliers": lambda: copies(outliers)}
    return FitData(inliers=lambda: copies(train), num_classes=num_classes or 0, seed=seed, batch_size=size, **options)


def _in_file(images: Images) -> MappedImages:
    """Copy images, rounded to 8 bits, to a temporary file that is mapped into memory."""
    import tempfile

    stream = tempfile.TemporaryFile()  # noqa: SIM115  the map keeps it open
    shape: tuple[int, ...] = ()
    count, labels = 0, []
    for batch in images:
        pixels = (batch.images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu()
        if shape and pixels.shape[1:] != shape:
            raise UserError(f"{images.name}: images are of several sizes: give size=")
        shape, count = tuple(pixels.shape[1:]), count + len(pixels)
        stream.write(pixels.numpy().tobytes())
        labels += [] if batch.labels is None else [batch.labels.cpu()]
    if not count:
        raise UserError(f"{images.name}: no images")
    stream.flush()
    rows = np.memmap(stream, dtype=np.uint8, mode="r", shape=(count, *shape))
    return MappedImages(rows, labels=torch.cat(labels) if labels else None)
