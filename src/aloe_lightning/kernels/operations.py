"""BatchNorm-ReLU-convolution on rows of channels, forward and backward, each in one pass over the memory.

On a CPU with a C++ compiler they are the C++ in `native/` (`compiler.py`). Elsewhere, and for other types, PyTorch's
own operations do the same in several passes: what is to be read to know what an operation does.

Features are (M, C), M = N * side * side pixels of N images; channels are neighbours, rows possibly apart. Scales and
shifts are (C,), of the type in which sums are kept: float32, for bfloat16 features too; float64 for float64.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight

from aloe_lightning.kernels import compiler

TYPES = (torch.float32, torch.float64, torch.bfloat16)


def kernels_for(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether there are compiled kernels for features; compiles them first where they can be had."""
    return device.type == "cpu" and dtype in TYPES and compiler.library() is not None


def as_rows(maps: Tensor) -> Tensor:
    """(N, C, H, W) -> (N * H * W, C)."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def as_maps(rows: Tensor, side: int) -> Tensor:
    """(N * side * side, C) -> (N, C, side, side), channels last, no copy."""
    maps: Tensor = torch.unflatten(rows, 0, (-1, side, side))
    return maps.permute(0, 3, 1, 2)


def features(count: int, channels: int, like: Tensor) -> Tensor:
    """Room for features (M, C) of the type of `like`; each row begins with a cache line."""
    return like.new_empty((count, -(-channels // 32) * 32))[:, :channels]


def pack(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """The weight of a convolution (O, C, k, k) as `norm_conv` wants it for features of a type."""
    compiled = _compiled(weight, dtype)
    return weight.to(dtype) if compiled is None else compiled.pack(weight, dtype)


def pack_backward(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """The weight of a convolution (O, C, k, k) as `norm_conv_backward` wants it."""
    return pack(weight.transpose(0, 1).flip(2, 3), dtype)


def norm_conv(x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, kernel: int, side: int, out: Tensor) -> Tensor:
    """Convolve relu(x * scale + shift), images padded with zeros to keep their size.

    Args:
        x: features (M, C).
        scale: (C,).
        shift: (C,).
        weight: from `pack`, of (O, C, kernel, kernel).
        kernel: odd.
        side: pixels of an image in a row.
        out: (M, O), written.

    Returns:
        Mean and (biased) variance of the outputs over rows, (2, O) float64.
    """
    compiled = _compiled(x)
    if compiled is not None:
        measured: Tensor = compiled.norm_conv(x, scale, shift, weight, kernel, side, out)
        return measured
    maps = as_maps(_activated(x, scale, shift).to(x.dtype), side)
    return moments(out.copy_(as_rows(F.conv2d(maps, weight, padding=kernel // 2))))


def norm_conv_backward(
    gradient: Tensor, features: Tensor, correction: Tensor, x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor,
    kernel: int, side: int, into: Tensor, *, add: bool, learns: bool,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """The gradients of `norm_conv`.

    Args:
        gradient: of the outputs (M, O), to be `corrected`.
        features: the outputs (M, O).
        correction: slope and level (2, O).
        x: as in `norm_conv`.
        scale: likewise.
        shift: likewise.
        weight: from `pack_backward`.
        kernel: as in `norm_conv`.
        side: likewise.
        into: gradient of `x` (M, C): added to it if `add`, else written.
        add: see `into`.
        learns: whether the weight's gradient is wanted.

    Returns:
        Sums over rows of d and of d * x, (2, C) float64, where d is the gradient behind the ReLU; gradient of the
        weight (O, C, kernel, kernel), in the type of `scale`, if it learns, else None.
    """
    compiled = _compiled(x)
    if compiled is not None:
        found: tuple[Tensor, Tensor | None] = compiled.norm_conv_backward(
            gradient, features, correction, x, scale, shift, weight, kernel, side, into, add, learns
        )
        return found
    maps, activated = as_maps(corrected(gradient, features, correction), side), _activated(x, scale, shift)
    learnt = None
    if learns:
        size, inputs = [len(weight[0]), len(weight), kernel, kernel], as_maps(activated.to(x.dtype), side)
        learnt = conv2d_weight(inputs, size, maps, padding=kernel // 2)  # type: ignore[no-untyped-call]
        learnt = learnt.to(scale.dtype)
    d = as_rows(F.conv2d(maps, weight, padding=kernel // 2))
    return _through_relu(d, x, scale, activated, into, add), learnt


def norm_pool(x: Tensor, scale: Tensor, shift: Tensor, side: int, pool: int, out: Tensor) -> None:
    """Average relu(x * scale + shift) over squares of pixels.

    Args:
        x: features (M, C).
        scale: (C,).
        shift: (C,).
        side: pixels of an image in a row.
        pool: pixels of a square in a row.
        out: (M / pool^2, C), written.
    """
    compiled = _compiled(x)
    if compiled is None:
        out.copy_(as_rows(F.avg_pool2d(as_maps(_activated(x, scale, shift), side), pool)))
    else:
        compiled.norm_pool(x, scale, shift, side, pool, out)


def norm_pool_backward(
    gradient: Tensor, x: Tensor, scale: Tensor, shift: Tensor, side: int, pool: int, into: Tensor
) -> Tensor:
    """The gradient of `norm_pool`, written to `into` (M, C); returns the sums that `norm_conv_backward` does."""
    compiled = _compiled(x)
    if compiled is not None:
        sums: Tensor = compiled.norm_pool_backward(gradient, x, scale, shift, side, pool, into)
        return sums
    squares = (gradient.to(scale.dtype) / pool**2).view(-1, side // pool, 1, side // pool, 1, len(scale))
    d = squares.expand(-1, -1, pool, -1, pool, -1).reshape(x.shape)
    return _through_relu(d, x, scale, _activated(x, scale, shift), into, False)


def corrected(gradient: Tensor, features: Tensor, correction: Tensor) -> Tensor:
    """The sum gradient + slope * features + level.

    Args:
        gradient: (M, C).
        features: (M, C).
        correction: slope and level (2, C).

    Returns:
        (M, C), rows one after the other, in the type of `gradient`.
    """
    compiled = _compiled(gradient)
    if compiled is None:
        slope, level = correction
        return torch.addcmul(gradient + level, features, slope).to(gradient.dtype)
    out = gradient.new_empty(gradient.shape)
    compiled.corrected(gradient, features, correction, out)
    return out


def moments(x: Tensor) -> Tensor:
    """Mean and (biased) variance over rows of features (M, C), (2, C) float64."""
    compiled = _compiled(x)
    if compiled is not None:
        measured: Tensor = compiled.moments(x)
        return measured
    var, mean = torch.var_mean(x.to(torch.promote_types(x.dtype, torch.float32)), 0, correction=0)
    return torch.stack([mean, var]).double()


def _through_relu(d: Tensor, x: Tensor, scale: Tensor, activated: Tensor, into: Tensor, add: bool) -> Tensor:
    """Take the gradient d of relu(x * scale + shift) to x, and sum it up."""
    d = (d * (activated > 0)).to(scale.dtype)
    into.copy_(into + d * scale if add else d * scale)
    return torch.stack([d.sum(0), (d * x).sum(0)]).double()


def _activated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """relu(x * scale + shift) in the type of `scale`."""
    return torch.addcmul(shift, x, scale).relu_()


def _compiled(x: Tensor, dtype: torch.dtype | None = None) -> Any:
    """The compiled operations if they are made for these features."""
    return compiler.library() if kernels_for(x.device, dtype or x.dtype) else None
