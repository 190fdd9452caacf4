"""Checks of a batch of images and labels that is given: form, range, and what was probably meant."""

from typing import Any

import torch
from torch import Tensor

from aloe_lightning.errors import UserError

TOLERANCE = 1e-6


def images_and_labels(name: str, content: Any) -> tuple[Tensor, Tensor | None]:
    """Return the images (n, 3, H, W) of a batch and its classes, int64 (n,) or None.

    Raises:
        UserError: if the batch is of another form.
    """
    images, labels = content, None
    if isinstance(content, list | tuple):
        if len(content) not in (1, 2):
            raise UserError(f"{name}: a batch has {len(content)} parts; it must be images or (images, labels)")
        images, labels = content[0], content[1] if len(content) == 2 else None
    usable = isinstance(images, Tensor) and images.layout == torch.strided and not images.is_meta
    if not usable or images.ndim != 4 or images.shape[1] != 3 or not images.numel():
        form = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        kind = "" if usable or not isinstance(images, Tensor) else " without stored values (sparse or meta)"
        raise UserError(f"{name}: a batch of images is {form}{kind}; it must be a tensor (N, 3, H, W){_advice(images)}")
    if labels is None:
        return images, None
    labels = torch.as_tensor(labels)
    if labels.shape != (len(images),) or labels.is_floating_point() or labels.dtype == torch.bool:
        raise UserError(f"{name}: labels are {labels.dtype} {tuple(labels.shape)}; they must be whole numbers (N,)")
    if labels.numel() and int(labels.min()) < 0:
        raise UserError(f"{name}: a label is {int(labels.min())}; classes are counted from 0")
    return images, labels.long()


def _advice(images: Any) -> str:
    if isinstance(images, dict):
        return ': wrap the loader in an iterable that yields (batch["image"], batch["label"])'
    if not isinstance(images, Tensor):
        return ": torch.from_numpy(images) converts it" if type(images).__name__ == "ndarray" else ""
    if not images.numel():
        return ": it is empty"
    if images.ndim == 4 and images.shape[1] != 3 and images.shape[3] == 3:
        return ": channels are last, images.permute(0, 3, 1, 2) converts them"
    if images.ndim == 4 and images.shape[1] == 1:
        return ": grey images become colour by images.expand(-1, 3, -1, -1)"
    if images.ndim == 4 and images.shape[1] == 4:
        return ": without transparency they are images[:, :3]"
    return ": one image is image[None]" if images.ndim == 3 and images.shape[0] == 3 else ""


def in_unit_range(name: str, images: Tensor, *, decoded: bool = False) -> Tensor:
    """Return images as float32 in [0, 1].

    Args:
        name: name of the set in messages.
        images: (n, 3, H, W), uint8, or floats in [0, 1].
        decoded: they come from picture files, in which values of 0 and 1 of 255 alone are possible.

    Raises:
        UserError: if they are of another type or range, or floats in [0, 1] that were cast to uint8.
    """
    if images.dtype == torch.uint8:
        if not decoded and int(images.max()) == 1:
            raise UserError(
                f"{name}: uint8 images have no value above 1 of 255: floats in [0, 1] were cast; give the floats"
            )
        return images.float() / 255
    if not images.is_floating_point():
        raise UserError(f"{name}: images are {images.dtype}; they must be uint8, or floats in [0, 1]")
    images = images.detach().float()
    if not torch.isfinite(images).all():
        raise UserError(f"{name}: {int((~torch.isfinite(images)).sum())} pixels are not finite (nan or inf)")
    low, high = float(images.amin()), float(images.amax())
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):
        is_255 = low >= 0 and (high > 20 or bool((images == images.round()).all()))
        reason = (
            "they look like 0..255: divide them by 255, or give uint8"
            if is_255
            else "an attack is defined in pixels, so give images as they are before normalisation, and the "
            "normalisation that the net expects as mean=(r, g, b) and std=(r, g, b)"
        )
        raise UserError(f"{name}: pixels are in [{low:.4g}, {high:.4g}], outside [0, 1]: {reason}")
    return images.clamp(0, 1)
