"""Checks of the arguments of an evaluation, and of what a given attack returns; a mistake is one line of advice."""

import re
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from torch import Tensor

from aloe_lightning.attacks import Ball, Norm
from aloe_lightning.attacks.ball import l2_norms
from aloe_lightning.errors import UserError
from aloe_lightning.evaluation.records import SIDES

SMALLEST_L2 = 4
"""An L2 budget below this one, in 1/255, is meant as a radius in [0, 1] pixels."""
TOLERANCE = 1e-5
REVERSED = 0.4
"""A clean AUROC below this one asks whether the score is reversed."""


def check_names(ood_data: Any, sides: Any) -> None:
    """Raise UserError for names of OOD sets that are no names of files, or unknown attacked sides."""
    if not isinstance(ood_data, Mapping) or not ood_data:
        raise UserError('OOD data are given by name: {"fabric": data}, at least one')
    for name in ood_data:
        if name in ("id", "train", "outliers") or not re.fullmatch(r"\w[\w.-]*", str(name)) or type(name) is not str:
            raise UserError(
                f"an OOD set cannot be called {name!r}: use letters, digits, '-', '_', not id, train, outliers"
            )
    unknown = [side for side in sides if side not in SIDES]
    if unknown or not sides or len(set(sides)) < len(sides):
        raise UserError(f"sides are some of {', '.join(SIDES)}, each once (got {list(sides)})")


def check_numbers(eps: Any, norm: Any, size: Any, batch_size: Any, seed: Any) -> None:
    """Raise UserError for a number of another type or range."""
    if isinstance(eps, bool) or not isinstance(eps, Real) or not 0 <= float(eps) < float("inf"):
        raise UserError(f"eps is a number of steps of 1/255, not negative (got {eps!r})")
    if norm not in ("linf", "l2"):
        raise UserError(f"norm is linf or l2 (got {norm!r})")
    if size is not None and not _is_whole(size, 1):
        raise UserError(f"size is a positive number of pixels, a whole one (got {size!r})")
    if batch_size is not None and not _is_whole(batch_size, 1):
        raise UserError(f"batch_size is a positive whole number (got {batch_size!r})")
    if not _is_whole(seed, 0):
        raise UserError(f"seed is a whole number, not negative (got {seed!r})")


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def l2_mistake(eps: float) -> str:
    """Return why an L2 budget is surely meant as a radius in [0, 1] pixels; "" for a plausible one."""
    if not 0 < eps < SMALLEST_L2:
        return ""
    return (
        f"counts 1/255 for the L2 norm, too (got {eps:g}, a radius of {eps / 255:.4f} in [0, 1] pixels): the radius "
        f"{eps:g} is eps={255 * eps:g}, and a smaller budget is given"
    )


def ball_of(attack: Any, norm: Norm) -> Ball:
    """Return the ball that an attack states.

    Raises:
        UserError: if it is no object that can be called and described, or states no budget.
    """
    if isinstance(attack, type) or not callable(attack) or not callable(getattr(attack, "describe", None)):
        raise UserError(
            "attack= is an object that is called as attack(images, loss, start=noise) and has describe() and epsilon, "
            f"such as PGD(epsilon=1, steps=40) (got {attack!r}); the name of a preset is given as preset="
        )
    epsilon = getattr(attack, "epsilon", None)
    if not isinstance(epsilon, Real):
        raise UserError(f"{type(attack).__name__} must state its budget in 1/255 as its attribute epsilon")
    return Ball(getattr(attack, "norm", norm), float(epsilon) / 255)


def require_in_ball(attack: Any, perturbed: Any, images: Tensor, ball: Ball) -> Tensor:
    """Return perturbed images (n, 3, H, W) if they lie in [0, 1] and in the ball around the images.

    Raises:
        UserError: if they do not, or are of another form.
    """
    name = type(attack).__name__
    if not isinstance(perturbed, Tensor) or perturbed.shape != images.shape:
        form = tuple(perturbed.shape) if isinstance(perturbed, Tensor) else type(perturbed).__name__
        raise UserError(f"{name} returns {form}; it must return perturbed images {tuple(images.shape)}")
    change = perturbed - images
    size = float(change.abs().amax() if ball.norm == "linf" else l2_norms(change).amax())
    if not size <= ball.eps * (1 + 1e-3) + TOLERANCE:
        raise UserError(
            f"{name} moves an image by {255 * size:.4g}/255 ({ball.norm}), but states epsilon {255 * ball.eps:.4g}/255"
        )
    low, high = float(perturbed.amin()), float(perturbed.amax())
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise UserError(f"{name} returns pixels in [{low:.4g}, {high:.4g}], outside [0, 1]")
    return perturbed


def object_text(value: Any) -> str:
    """Return class and attributes of an object, the same text in every process."""
    attributes = dict(sorted(getattr(value, "__dict__", {}).items()))
    return re.sub(r" at 0x[0-9a-f]+", "", f"{type(value).__module__}.{type(value).__qualname__}({attributes})")


def reversed_score(name: str, clean: Sequence[float]) -> str:
    """Return a warning if the clean AUROCs of a detector, fractions, are clearly below chance; else ""."""
    mean = sum(clean) / len(clean)
    if mean >= REVERSED:
        return ""
    return (
        f"the clean AUROC of {name} is {100 * mean:.1f} %, below chance: is the score reversed? Higher must mean "
        "in-distribution, and the attack lowers scores of ID images"
    )
