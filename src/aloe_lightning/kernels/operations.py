"""BatchNorm-ReLU-convolution on rows of channels, forward and backward, each in one pass over the memory.

On a CPU with a C++ compiler the operations are the C++ code in `native/` (see `compiler.py`). Elsewhere, and for other
types, PyTorch operations compute the same in several passes; they are the readable definition of each operation.

Features are (M, C), M = N * side * side pixels of N images. The channels of a row are contiguous; rows may be strided.
Scales and shifts are (C,) in the type of the sums: float64 for float64 features, otherwise float32.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from aloe_lightning.kernels import compiler

TYPES = (torch.float32, torch.float64, torch.bfloat16)


def has_kernels(norm: nn.BatchNorm2d) -> bool:
    """Return whether compiled kernels exist for the device and type of a BatchNorm's features; may compile them."""
    return _library(norm.weight.device, feature_dtype(norm)) is not None


def feature_dtype(norm: nn.BatchNorm2d) -> torch.dtype:
    """Return the autocast dtype if autocast is enabled, otherwise the dtype of the parameters."""
    kind = norm.weight.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else norm.weight.dtype


def as_rows(maps: Tensor) -> Tensor:
    """Reshape (N, C, H, W) to (N * H * W, C)."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def as_maps(rows: Tensor, side: int) -> Tensor:
    """View (N * side * side, C) as (N, C, side, side), channels last."""
    maps: Tensor = torch.unflatten(rows, 0, (-1, side, side))
    return maps.permute(0, 3, 1, 2)


def empty_features(count: int, channels: int, like: Tensor) -> Tensor:
    """Allocate features (count, channels) of the type of `like`; each row starts with a cache line."""
    return like.new_empty((count, -(-channels // 32) * 32))[:, :channels]


def pack_weight(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Pack the weight of a convolution (O, C, k, k) for `norm_conv` on features of a type."""
    library = _library(weight.device, dtype)
    return weight.to(dtype) if library is None else library.pack_weight(weight, dtype)


def pack_weight_backward(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Pack the weight of a convolution (O, C, k, k) for `norm_conv_backward`."""
    return pack_weight(weight.transpose(0, 1).flip(2, 3), dtype)


def norm_conv(x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, kernel: int, side: int, out: Tensor) -> Tensor:
    """Convolve relu(x * scale + shift); images are padded with zeros and keep their size.

    Args:
        x: features (M, C).
        scale: (C,).
        shift: (C,).
        weight: (O, C, kernel, kernel), packed by `pack_weight`.
        kernel: odd.
        side: width and height of an image in pixels.
        out: receives the result (M, O).

    Returns:
        Mean and (biased) variance of the outputs over rows, (2, O) float64.
    """
    library = _library(x.device, x.dtype)
    if library is not None:
        output_moments: Tensor = library.norm_conv(x, scale, shift, weight, kernel, side, out)
        return output_moments
    maps = as_maps(_norm_relu(x, scale, shift).to(x.dtype), side)
    return moments(out.copy_(as_rows(F.conv2d(maps, weight, padding=kernel // 2))))


def norm_conv_backward(
    gradient: Tensor, features: Tensor, terms: Tensor, x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor,
    kernel: int, side: int, input_gradient: Tensor, *, add: bool, needs_weight_gradient: bool,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Compute the gradients of `norm_conv`.

    Args:
        gradient: gradient of the outputs (M, O), without the terms of `add_batchnorm_terms`.
        features: the outputs (M, O).
        terms: slope and offset (2, O), see `add_batchnorm_terms`.
        x: as in `norm_conv`.
        scale: as in `norm_conv`.
        shift: as in `norm_conv`.
        weight: packed by `pack_weight_backward`.
        kernel: as in `norm_conv`.
        side: as in `norm_conv`.
        input_gradient: receives the gradient of `x` (M, C).
        add: add to `input_gradient` instead of overwriting it.
        needs_weight_gradient: compute the gradient of the weight.

    Returns:
        Sums over rows of d and of d * x, (2, C) float64, where d is the gradient of x * scale + shift; and the gradient
        of the weight (O, C, kernel, kernel) in the type of `scale`, or None.
    """
    library = _library(x.device, x.dtype)
    if library is not None:
        sums_and_gradient: tuple[Tensor, Tensor | None] = library.norm_conv_backward(
            gradient, features, terms, x, scale, shift, weight, kernel, side, input_gradient, add, needs_weight_gradient
        )
        return sums_and_gradient
    maps, activated = as_maps(add_batchnorm_terms(gradient, features, terms), side), _norm_relu(x, scale, shift)
    weight_gradient = None
    if needs_weight_gradient:
        size, inputs = [len(weight[0]), len(weight), kernel, kernel], as_maps(activated.to(x.dtype), side)
        weight_gradient = conv2d_weight(inputs, size, maps, padding=kernel // 2)  # type: ignore[no-untyped-call]
        weight_gradient = weight_gradient.to(scale.dtype)
    d = as_rows(F.conv2d(maps, weight, padding=kernel // 2))
    return _relu_gradient(d, x, scale, activated, input_gradient, add), weight_gradient


def norm_pool(x: Tensor, scale: Tensor, shift: Tensor, side: int, pool: int, out: Tensor) -> None:
    """Average relu(x * scale + shift) over square windows of pixels.

    Args:
        x: features (M, C).
        scale: (C,).
        shift: (C,).
        side: width and height of an image in pixels.
        pool: width and height of a window in pixels.
        out: receives the result (M / pool^2, C).
    """
    library = _library(x.device, x.dtype)
    if library is None:
        out.copy_(as_rows(F.avg_pool2d(as_maps(_norm_relu(x, scale, shift), side), pool)))
    else:
        library.norm_pool(x, scale, shift, side, pool, out)


def norm_pool_backward(
    gradient: Tensor, x: Tensor, scale: Tensor, shift: Tensor, side: int, pool: int, input_gradient: Tensor
) -> Tensor:
    """Write the gradient of `norm_pool` to `input_gradient` (M, C); return the sums of `norm_conv_backward`."""
    library = _library(x.device, x.dtype)
    if library is not None:
        sums: Tensor = library.norm_pool_backward(gradient, x, scale, shift, side, pool, input_gradient)
        return sums
    windows = (gradient.to(scale.dtype) / pool**2).view(-1, side // pool, 1, side // pool, 1, len(scale))
    d = windows.expand(-1, -1, pool, -1, pool, -1).reshape(x.shape)
    return _relu_gradient(d, x, scale, _norm_relu(x, scale, shift), input_gradient, False)


def add_batchnorm_terms(gradient: Tensor, features: Tensor, terms: Tensor) -> Tensor:
    """Return gradient + slope * features + offset: the gradient with the part that flows through batch statistics.

    Args:
        gradient: (M, C).
        features: (M, C).
        terms: slope and offset (2, C), from `BatchStatistics.gradient_terms`.

    Returns:
        Contiguous features (M, C) in the type of `gradient`.
    """
    library = _library(gradient.device, gradient.dtype)
    if library is None:
        slope, offset = terms
        return torch.addcmul(gradient + offset, features, slope).to(gradient.dtype)
    out = gradient.new_empty(gradient.shape)
    library.add_batchnorm_terms(gradient, features, terms, out)
    return out


def moments(x: Tensor) -> Tensor:
    """Return mean and (biased) variance over rows of features (M, C): (2, C) float64."""
    library = _library(x.device, x.dtype)
    if library is not None:
        mean_and_variance: Tensor = library.moments(x)
        return mean_and_variance
    var, mean = torch.var_mean(x.to(torch.promote_types(x.dtype, torch.float32)), 0, correction=0)
    return torch.stack([mean, var]).double()


def _relu_gradient(d: Tensor, x: Tensor, scale: Tensor, activated: Tensor, input_gradient: Tensor, add: bool) -> Tensor:
    """Propagate the gradient d of relu(x * scale + shift) to x; return the sums of `norm_conv_backward`."""
    d = (d * (activated > 0)).to(scale.dtype)
    input_gradient.copy_(input_gradient + d * scale if add else d * scale)
    return torch.stack([d.sum(0), (d * x).sum(0)]).double()


def _norm_relu(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return relu(x * scale + shift) in the type of `scale`."""
    return torch.addcmul(shift, x, scale).relu_()


def _library(device: torch.device, dtype: torch.dtype) -> Any:
    """Return the compiled operations if they support features of this type on this device, otherwise None."""
    return compiler.library() if device.type == "cpu" and dtype in TYPES else None
