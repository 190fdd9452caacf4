"""Contact sheets: a sample of a data set in one picture."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from aloe_lightning.data.images.source import ImageSource
from aloe_lightning.data.sets.sign_warp import warp_signs
from aloe_lightning.errors import UserError
from aloe_lightning.runtime.seeding import generator

SIDE, GAP, MARGIN = 64, 4, 34  # sheet pixels per image, between images, and for the label of a row
ROWS, COLUMNS, CLASSES, VERSIONS = 10, 16, 50, 11


class SheetRow(NamedTuple):
    """Images of one kind: a label, and uint8 (n, 3, 32, 32)."""

    label: str
    images: Tensor


def sample_rows(source: ImageSource, seed: int = 0) -> list[SheetRow]:
    """Return random images: a row for each of the first 50 classes, or ten rows of any images without classes."""
    draws = generator(seed, "contact sheet")

    def sample(indices: Tensor, count: int) -> Tensor:
        return source.take(indices[torch.randperm(len(indices), generator=draws)[:count].sort().values])

    if source.labels is None:
        parts = torch.split(sample(torch.arange(len(source)), ROWS * COLUMNS), COLUMNS)
        return [SheetRow("", images) for images in parts]
    return [SheetRow(label, sample(members, COLUMNS)) for label, members in _classes_of(source.labels)]


def augmented_rows(source: ImageSource, seed: int = 0) -> list[SheetRow]:
    """Return a row for each class: an image and eleven versions of it by the augmentation of traffic signs."""
    if source.labels is None:
        raise UserError("--augmented shows a row for each class; this set has none")
    draws = generator(seed, "contact sheet")
    rows = []
    for label, members in _classes_of(source.labels):
        original = source.take(members[torch.randint(len(members), (1,), generator=draws)])
        versions = warp_signs(original.expand(VERSIONS, -1, -1, -1), draws)
        rows.append(SheetRow(label, torch.cat([original, versions])))
    return rows


def _classes_of(labels: Tensor) -> list[tuple[str, Tensor]]:
    """Return the first 50 classes that occur, with the indices of their images."""
    return [(str(label), torch.nonzero(labels == label).ravel()) for label in torch.unique(labels).tolist()[:CLASSES]]


def contact_sheet(rows: Sequence[SheetRow], blocks: int = 1) -> Image.Image:
    """Draw rows of images, distributed over a number of blocks next to each other."""
    rows_per_block = -(-len(rows) // blocks)
    margin = MARGIN if any(row.label for row in rows) else GAP
    cell = SIDE + GAP
    width = margin + max(len(row.images) for row in rows) * cell
    sheet = Image.new("RGB", (blocks * width, GAP + rows_per_block * cell), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=16)
    for number, row in enumerate(rows):
        left, top = (number // rows_per_block) * width + margin, GAP + (number % rows_per_block) * cell
        pen.text((left - 6, top + SIDE // 2), row.label, fill="black", font=font, anchor="rm")
        for column, pixels in enumerate(row.images.permute(0, 2, 3, 1).numpy()):
            picture = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.NEAREST)
            sheet.paste(picture, (left + column * cell, top))
    return sheet
