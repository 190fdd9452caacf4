"""Pictures of the images that an attack moved furthest across the threshold of a detector."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aloe_lightning.evaluation.examples import Examples, Side
from aloe_lightning.report.figures.files import new_figure
from aloe_lightning.report.figures.scores import Shown

SIDES: tuple[Side, ...] = ("id", "ood")
MOST = 3
"""Images shown of each side."""


def with_examples(rows: Sequence[Shown]) -> list[tuple[Shown, dict[Side, Examples]]]:
    """Return the rows of the score figure whose runs have examples, with these by side."""
    runs = {row.run.folder: row.run.examples() for row in rows}
    found = []
    for row in rows:
        examples = runs[row.run.folder]
        of_row = {side: examples[row.detector, side] for side in SIDES if (row.detector, side) in examples}
        sides = {side: images.take(np.arange(len(images))[:MOST]) for side, images in of_row.items() if len(images)}
        if sides:
            found.append((row, sides))
    return found


def magnification(examples: Sequence[Examples]) -> int:
    """Return the factor that makes the largest change of a value just visible in full: from grey to black or white."""
    largest = max(float(np.abs(change_of(images)).max()) for images in examples)
    return max(1, int(np.float32(0.5) / np.float32(largest) + 1e-3)) if largest > 0 else 1


def change_of(examples: Examples) -> NDArray[np.float32]:
    """Return attacked less clean images, (n, 3, H, W), in [-1, 1]."""
    return examples.attacked - examples.clean.astype(np.float32) / np.float32(255)


def examples_figure(rows: Sequence[tuple[Shown, dict[Side, Examples]]], factor: int) -> Any:
    """Draw a block for each detector and net: in-distribution images left, OOD images right, one in each column.

    Under each other stand the clean image and the attacked one, each with its score, and their difference times a
    factor, around grey.

    Args:
        rows: rows of the score figure with their examples by side, as returned by `with_examples`.
        factor: the factor.

    Returns:
        A matplotlib figure.
    """
    columns = max(len(examples) for _, sides in rows for examples in sides.values())
    figure = new_figure(0.4 + 1.6 * columns, 0.2 + 3.5 * len(rows))
    blocks = np.reshape(figure.subfigures(len(rows), 1, squeeze=False), len(rows))
    for block, (row, sides) in zip(blocks, rows, strict=True):
        decimals = _decimals(list(sides.values()))
        threshold = next(iter(sides.values())).threshold[0]
        title = f"{row.run.cell.objective_title}, {row.title}: accepted above {threshold:.{decimals}f}"
        block.suptitle(title, fontsize=9)
        axes = block.subplots(3, 2 * columns, squeeze=False)
        for axis in axes.ravel():
            axis.set_axis_off()
        for axis, name in zip(axes[:, 0], ("clean", "attacked", f"change × {factor}"), strict=True):
            axis.text(-0.1, 0.5, name, rotation=90, ha="right", va="center", fontsize=8, transform=axis.transAxes)
        for half, side in zip(np.split(axes, 2, axis=1), SIDES, strict=True):
            if side in sides:
                _draw(half, side, sides[side], factor, decimals)
    return figure


def _draw(axes: Any, side: Side, examples: Examples, factor: int, decimals: int) -> None:
    """Draw the examples of one side in columns of three axes."""
    changes = change_of(examples)
    for place, (clean, attacked, change) in enumerate(axes.T[: len(examples)]):
        clean.set_title("in-distribution" if side == "id" else str(examples.dataset[place]), fontsize=8)
        pixels = (examples.attacked[place] * 255).round().astype(np.uint8)
        scores = examples.clean_score[place], examples.attacked_score[place]
        for axis, image, score in zip((clean, attacked), (examples.clean[place], pixels), scores, strict=True):
            _show(axis, image)
            accepted = score > examples.threshold[place]
            text = f"{score:.{decimals}f}\n{'accepted' if accepted else 'rejected'}"
            weight = "normal" if accepted == (side == "id") else "bold"
            place_below = {"ha": "center", "va": "top", "transform": axis.transAxes}
            axis.text(0.5, -0.04, text, fontsize=8, fontweight=weight, **place_below)
        _show(change, ((0.5 + factor * changes[place]).clip(0, 1) * 255).round().astype(np.uint8))


def _show(axis: Any, image: NDArray[np.uint8]) -> None:
    axis.imshow(image.transpose(1, 2, 0), interpolation="none")


def _decimals(sides: Sequence[Examples]) -> int:
    """Return the number of decimals that shows differences between the scores with three digits."""
    scores = np.concatenate([values for e in sides for values in (e.clean_score, e.attacked_score, e.threshold)])
    span = float(np.ptp(scores))
    return int(np.clip(2 - np.floor(np.log10(span)), 0, 9)) if span > 0 else 2
