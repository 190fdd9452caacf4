"""Is a set there, whole and official? Asked through the very readers that training and evaluation use."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from aloe_lightning.data.catalogue.sets import CARDS
from aloe_lightning.data.sets.readers import Parts, named_parts, own_parts
from aloe_lightning.errors import UserError

State = Literal["official", "complete", "usable", "missing", "broken"]
"""To the published MD5 sums; to the published counts, where no sums of the unpacked files are published; well-formed,
but another copy or a part; not there; not to be read."""
SUMMED = frozenset({"cifar10", "cifar100", "random_images_300k", "svhn"})


@dataclass(frozen=True)
class Verdict:
    """What was found.

    Attributes:
        name: of the set.
        state: see `State`.
        counts: images by split.
        note: what is wrong, or differs from the published set.
    """

    name: str
    state: State
    counts: dict[str, int]
    note: str = ""


def check(name: str, root: Path) -> Verdict:
    """Read a named set (of one that is mapped, its ends) and hold it to what was published."""
    card = CARDS[name]
    if card.layout(root) is None and not any((root / path).exists() for paths in card.layouts for path in paths):
        return Verdict(name, "missing", {}, card.remedy(root))
    differs = ""
    for verify in (True, False):
        try:
            counts = _read(named_parts(name, root, verify=verify))
        except UserError as error:
            if not verify:
                return Verdict(name, "broken", {}, str(error))
            differs = str(error)
        else:
            whole: State = "official" if name in SUMMED else "complete"
            return Verdict(name, whole if verify else "usable", counts, differs)
    raise AssertionError("the second round returns")


def check_own(path: Path) -> Verdict:
    """Read images of one's own."""
    try:
        return Verdict(str(path), "usable", _read(own_parts(path)))
    except UserError as error:
        return Verdict(str(path), "broken", {}, str(error))


def _read(parts: Parts) -> dict[str, int]:
    """Number of images by split; each split gives up its first and last image."""
    counts = {}
    for split, load in parts.items():
        images = load()
        counts[split] = len(images)
        if len(images):
            images.take(torch.tensor([0, len(images) - 1]))
    return counts
