"""Contact sheets: what is in a set, at a glance."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from aloe_lightning.data.images.source import ImageSource
from aloe_lightning.data.sets.sign_warp import warp_signs
from aloe_lightning.errors import UserError
from aloe_lightning.runtime.seeding import generator

SCALE, GAP, MARGIN = 2, 4, 34  # pixels of the sheet per pixel, between pictures, for the name of a row
ROWS, COLUMNS, CLASSES, VERSIONS = 10, 16, 50, 11


class Row(NamedTuple):
    """Pictures of one kind: a name, and uint8 (n, 3, 32, 32)."""

    name: str
    images: Tensor


def rows_of(source: ImageSource, seed: int = 0) -> list[Row]:
    """A random choice of a set: a row for each class, of the first 50; ten rows of anything where classes are none."""
    draws = generator(seed, "contact sheet")

    def some(indices: Tensor, count: int) -> Tensor:
        return source.take(indices[torch.randperm(len(indices), generator=draws)[:count].sort().values])

    if source.labels is None:
        return [Row("", part) for part in torch.split(some(torch.arange(len(source)), ROWS * COLUMNS), COLUMNS)]
    return [Row(str(label), some(members, COLUMNS)) for label, members in classes_of(source.labels)]


def rows_of_warped(source: ImageSource, seed: int = 0) -> list[Row]:
    """For each class one image (first) and what the augmentation of traffic signs makes of it.

    Raises:
        UserError: if the set has no classes.
    """
    if source.labels is None:
        raise UserError("--augmented shows a row for each class; this set has none")
    draws = generator(seed, "contact sheet")
    rows = []
    for label, members in classes_of(source.labels):
        original = source.take(members[torch.randint(len(members), (1,), generator=draws)])
        rows.append(Row(str(label), torch.cat([original, warp_signs(original.expand(VERSIONS, -1, -1, -1), draws)])))
    return rows


def classes_of(labels: Tensor) -> list[tuple[int, Tensor]]:
    """The first classes that occur, with the indices of their images."""
    return [(label, torch.nonzero(labels == label).ravel()) for label in sorted(set(labels.tolist()))[:CLASSES]]


def contact_sheet(rows: Sequence[Row], blocks: int = 1) -> Image.Image:
    """A picture of rows of pictures, side by side in `blocks`."""
    columns = max(len(row.images) for row in rows)
    high = -(-len(rows) // blocks)
    margin = MARGIN if any(row.name for row in rows) else GAP
    cell = 32 * SCALE + GAP
    width = margin + columns * cell
    sheet = Image.new("RGB", (blocks * width, GAP + high * cell), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=16)
    for number, row in enumerate(rows):
        left, top = (number // high) * width, GAP + (number % high) * cell
        pen.text((left + margin - 6, top + 16 * SCALE), row.name, fill="black", font=font, anchor="rm")
        for column, pixels in enumerate(row.images.permute(0, 2, 3, 1).numpy()):
            large = np.repeat(np.repeat(pixels, SCALE, 0), SCALE, 1)
            sheet.paste(Image.fromarray(large), (left + margin + column * cell, top))
    return sheet


def write_sheet(sheet: Image.Image, path: Path) -> None:
    """Save as PNG.

    Raises:
        UserError: if that is not possible.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path, format="PNG", optimize=True)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error}): choose another --output") from error
