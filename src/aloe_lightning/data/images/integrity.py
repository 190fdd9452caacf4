"""Checks of data files; every error names the file, the reason and what to do."""

import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aloe_lightning.errors import UserError

PICKLED_ARRAYS = {("_codecs", "encode"), ("numpy._core.numeric", "_frombuffer")} | {  # the latter: pickle protocol 5
    (module, name)
    for module in ("numpy", "numpy._core.multiarray")
    for name in ("ndarray", "dtype", "_reconstruct", "scalar")
}


def verify_md5(file: Path, expected: str) -> None:
    """Compare the MD5 sum of a file with the published one, or raise a UserError if they differ."""
    with file.open("rb") as stream:
        md5 = hashlib.file_digest(stream, "md5").hexdigest()
    if md5 != expected:
        raise UserError(
            f"{file} is not the official file: MD5 {md5}, expected {expected}; "
            "download it again, or set paths.verify=false if you know this copy"
        )


class _ArraysOnly(pickle._Unpickler):  # written in Python: that in C fills the memory at a damaged memo number
    def find_class(self, module: str, name: str) -> Any:
        current_module = module.replace("numpy.core", "numpy._core")
        if (current_module, name) not in PICKLED_ARRAYS:
            raise pickle.UnpicklingError(f"it would load {module}.{name}")
        return super().find_class(current_module, name)


def read_pickle(path: Path, content_name: str = "a CIFAR batch") -> dict[str, Any]:
    """Read a pickled dictionary of plain values and numpy arrays, a common format; anything else is refused.

    Keys are returned as text, whether Python 2 or Python 3 wrote the file.

    Raises:
        UserError: if the file is truncated or holds anything but that.
    """
    try:
        with path.open("rb") as stream:
            content = _ArraysOnly(stream, encoding="bytes").load()
        if not isinstance(content, dict):
            raise ValueError(f"it holds {type(content).__name__}, no dictionary")
        return {key.decode() if isinstance(key, bytes) else str(key): value for key, value in content.items()}
    except Exception as error:  # a damaged pickle raises nearly anything
        raise UserError(f"cannot read {path.absolute()}: truncated or not {content_name} ({error})") from error


def read_npy(path: Path, size: int | None = 32) -> NDArray[np.uint8]:
    """Memory-map a `.npy` of images: uint8, (N, size, size, 3), the layout of 300K_random_images.npy.

    Args:
        path: the file.
        size: required height and width; None for any.

    Raises:
        UserError: if the file is missing, truncated, or of another type or shape.
    """
    if not path.is_file():
        raise UserError(f"no images at {path.absolute()}: put the .npy file there, or correct the path")
    try:
        rows: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged header raises nearly anything
        raise UserError(f"cannot read {path.absolute()}: truncated or not an .npy array ({error})") from error
    if not isinstance(rows, np.ndarray):
        raise UserError(f"cannot read {path.absolute()}: an archive of arrays, not one .npy array")
    is_images = rows.dtype == np.uint8 and rows.ndim == 4 and rows.shape[3] == 3 and rows.size > 0
    if not is_images or size not in (None, rows.shape[1]) or size not in (None, rows.shape[2]):
        shape = "(N, H, W, 3)" if size is None else f"(N, {size}, {size}, 3)"
        raise UserError(
            f"{path.absolute()} holds {rows.dtype} of shape {rows.shape}; images are uint8 of shape {shape}"
            + conversion(rows)
        )
    return rows


def refuse_cast(sample: NDArray[np.uint8], path: Path) -> None:
    """Raise a UserError if images have no value above 1, as floats in [0, 1] have after a cast to uint8."""
    if sample.max() == 1:
        raise UserError(
            f"{path.absolute()}: images have no value above 1 of 255: floats in [0, 1] were cast to uint8 without "
            "multiplying them by 255"
        )


def conversion(pixels: NDArray[Any]) -> str:
    """Return the end of a message: the expression that converts images to uint8 (N, H, W, 3); "" if unknown."""
    value, axes = "x", pixels.shape[1:]
    if pixels.ndim == 4 and axes[2] not in (1, 3, 4) and axes[0] in (1, 3, 4):
        value, axes = f"{value}.transpose(0, 2, 3, 1)", (axes[1], axes[2], axes[0])
    if pixels.ndim == 3 and axes[1] not in (1, 3, 4):
        value = f"np.stack([{value}] * 3, -1)"
    elif pixels.ndim == 4 and axes[2] == 1:
        value = f"{value}.repeat(3, -1)"
    elif pixels.ndim == 4 and axes[2] == 4:
        value = f"{value}[..., :3]"
    if pixels.dtype.kind in "biuf" and pixels.dtype != np.uint8 and pixels.size:
        values = pixels[:100]
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 255:
            return ": their values are not in [0, 1] or [0, 255]: which colours they mean is not known"
        value = (
            f"({value} * 255).round().astype(np.uint8)" if values.max() <= 1 else f"{value}.round().astype(np.uint8)"
        )
    return "" if value == "x" else f": {value} converts them"
