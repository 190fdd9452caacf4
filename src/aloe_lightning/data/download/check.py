"""Checks of data sets through the same readers that training and evaluation use."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from aloe_lightning.data.catalogue import card_of
from aloe_lightning.data.sets.named import Splits
from aloe_lightning.data.sets.readers import custom_splits, named_splits
from aloe_lightning.errors import UserError

DatasetState = Literal["official", "complete", "usable", "missing", "broken"]
"""official: agrees with the published MD5 sums; complete: agrees with the published counts, where no sums of the
extracted files are published; usable: well-formed, but another copy or a part; missing; broken: cannot be read."""


@dataclass(frozen=True)
class Verdict:
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


def check(name: str, root: Path) -> Verdict:
    """Read a named set (only both ends if it is memory-mapped) and compare it with the published facts."""
    card = card_of(name)
    if card.layout(root) is None and not any((root / path).exists() for paths in card.layouts for path in paths):
        return Verdict(name, "missing", {}, card.remedy(root))
    difference = ""
    for verify in (True, False):
        try:
            counts = _count(named_splits(name, root, verify=verify))
        except UserError as error:
            if not verify:
                return Verdict(name, "broken", {}, str(error))
            difference = str(error)
        else:
            verified: DatasetState = "official" if card.sums else "complete"
            return Verdict(name, verified if verify else "usable", counts, difference)
    raise AssertionError("the second round returns")


def check_custom(path: Path) -> Verdict:
    """Read custom images."""
    try:
        return Verdict(str(path), "usable", _count(custom_splits(path)))
    except UserError as error:
        return Verdict(str(path), "broken", {}, str(error))


def _count(splits: Splits) -> dict[str, int]:
    """Return the number of images by split, after reading the first and the last one."""
    counts = {}
    for split, load in splits.items():
        images = load()
        counts[split] = len(images)
        if len(images):
            images.take(torch.tensor([0, len(images) - 1]))
    return counts
