"""The clean accuracy, which tells whether a net was given the images that it expects."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aloe_lightning.errors import UserError
from aloe_lightning.robustness.images import FolderImages, Images

Classes = NDArray[np.int64]


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
    from aloe_lightning.report.bootstrap import share_interval

    low, high = share_interval(accuracy, count)
    return f"clean accuracy: {100 * accuracy:.2f} % ({100 * low:.1f} to {100 * high:.1f}) of {count} images"


def chance_warning(accuracy: float, count: int, num_classes: int) -> str:
    """Return a warning if the accuracy is within a tenth of the way from chance to 1, or within chance; else ""."""
    chance = 1 / num_classes
    margin = max(0.1 * (1 - chance), 2 * (chance * (1 - chance) / count) ** 0.5)
    if accuracy > chance + margin:
        return ""
    return (
        f"the clean accuracy of {100 * accuracy:.2f} % is near chance ({100 * chance:.2f} %): is normalisation missing "
        "or doubled, or are the classes in another order? The numbers below say nothing before this is right"
    )
