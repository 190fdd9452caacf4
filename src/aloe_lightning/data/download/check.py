"""Checks of data sets through the same readers that training and evaluation use."""

from pathlib import Path
from typing import Literal, NamedTuple

import torch

from aloe_lightning.data.catalogue import card_of
from aloe_lightning.data.sets.readers import splits_of
from aloe_lightning.errors import UserError

DatasetState = Literal["official", "complete", "usable", "missing", "broken"]
"""official: agrees with the published MD5 sums; complete: agrees with the published counts, where no sums of the
extracted files are published; usable: well-formed, but another copy or a part; missing; broken: cannot be read."""


class Verdict(NamedTuple):
    """The result of a check.

    Attributes:
        name: name of the set.
        state: see `DatasetState`.
        counts: number of images by split.
        note: the error, or the difference from the published set.
    """

    name: str
    state: DatasetState
    counts: dict[str, int]
    note: str = ""


def check(subject: str | Path, root: Path) -> Verdict:
    """Read a named set or custom images, and compare the former with the published facts.

    Of memory-mapped images only the first and the last one are read.
    """
    difference = ""
    if isinstance(subject, str):
        card = card_of(subject)
        if card.layout(root) is None and not any((root / path).exists() for paths in card.layouts for path in paths):
            return Verdict(subject, "missing", {}, card.how_to_obtain(root))
        try:
            return Verdict(subject, "official" if card.sums else "complete", _counts(subject, root, verify=True))
        except UserError as error:
            difference = str(error)
    try:
        return Verdict(str(subject), "usable", _counts(subject, root, verify=False), difference)
    except UserError as error:
        return Verdict(str(subject), "broken", {}, str(error))


def _counts(subject: str | Path, root: Path, *, verify: bool) -> dict[str, int]:
    """Return the number of images by split, after reading the first and the last one."""
    counts = {}
    for split, load in splits_of(subject, root, verify=verify).items():
        images = load()
        counts[split] = len(images)
        if len(images):
            images.take(torch.tensor([0, len(images) - 1]))
    return counts
