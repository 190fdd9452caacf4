"""A dense block with the BN-ReLU and the pooling after it, as one operation on one buffer of feature maps.

Layer by layer, a DenseNet spends its time moving memory: every layer copies all channels before it (concatenation) and
normalises them afresh, and autograd keeps each copy. Here, with the same parameters and outputs (up to rounding):

- Each layer writes its channels into one buffer (pixels, channels); nothing is concatenated.
- A channel's batch statistics are the same for every layer that reads it: they are computed once, and so is what they
  add to its gradient.
- ReLU(BN(.)) is computed again in the backward pass instead of kept.
- The work goes through the buffer in parts that a processor's cache holds.
- In eval mode the second BatchNorm of a layer is folded into its 1x1 convolution.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from aloe_lightning.nets.batch_statistics import BatchStatistics, affine, move_running
from aloe_lightning.nets.kernels import copy_rows, relu_affine, relu_affine_backward

ROWS = 8192
"""Pixels in a part."""

threshold_backward = torch.ops.aten.threshold_backward
convolution_backward = torch.ops.aten.convolution_backward


class Layer(Protocol):
    """BN-ReLU-conv1x1-BN-ReLU-conv3x3."""

    bn1: nn.BatchNorm2d
    conv1: nn.Conv2d
    bn2: nn.BatchNorm2d
    conv2: nn.Conv2d


def dense_stage(x: Tensor, layers: Sequence[Layer], norm: nn.BatchNorm2d, pool: int) -> Tensor:
    """Run a dense block, the BatchNorm after it, ReLU and average pooling.

    The BatchNorm layers normalise by the batch in training mode (moving their running statistics where they track
    them), else by their running statistics; then no parameter may ask for a gradient.

    Args:
        x: maps (N, C, H, H).
        layers: bottlenecks; layer i reads C + i * growth channels and adds growth.
        norm: reads all channels.
        pool: side of the pooled squares.

    Returns:
        Pooled maps (N, C + len(layers) * growth, H / pool, H / pool), in autocast's type where it is on.
    """
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else norm.weight.dtype
    parameters = [
        p
        for layer in layers
        for p in (
            layer.bn1.weight, layer.bn1.bias, layer.conv1.weight, layer.bn2.weight, layer.bn2.bias, layer.conv2.weight,
        )
    ]  # fmt: skip
    parameters += [norm.weight, norm.bias]
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in [x, *parameters])
    pooled: Tensor = _DenseStage.apply(x, layers, norm, pool, dtype, keep, *parameters)
    return pooled


def _parts(rows: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def _maps(rows: Tensor, side: int) -> Tensor:
    """(N * side * side, C) -> (N, C, side, side), channels last, no copy."""
    return rows.view(-1, side, side, rows.shape[1]).permute(0, 3, 1, 2)


def _activated(x: Tensor, scale: Tensor, shift: Tensor, room: Tensor) -> Tensor:
    """relu(x * scale + shift) in `room`, and in its type."""
    return relu_affine(x, scale, shift, room[: x.numel()].view(x.shape))


def _rows(maps: Tensor) -> Tensor:
    """(N, C, H, W) -> (N * H * W, C)."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


class _DenseStage(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        layers: Sequence[Layer],
        norm: nn.BatchNorm2d,
        pool: int,
        dtype: torch.dtype,
        keep: bool,
        *_: Tensor,
    ) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            pooled, saved = _forward(x, layers, norm, pool, dtype, keep)
        ctx.saved = saved
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        with torch.autocast(gradient.device.type, enabled=False):
            learns = ctx.needs_input_grad[-1]
            inputs, gradients = _backward(gradient, learns, *ctx.saved)
        return inputs, None, None, None, None, None, *(gradients or [None] * (len(ctx.needs_input_grad) - 6))


def _forward(
    x: Tensor, layers: Sequence[Layer], norm: nn.BatchNorm2d, pool: int, dtype: torch.dtype, keep: bool
) -> tuple[Tensor, Any]:
    side, c, growth = x.shape[2], x.shape[1], layers[0].conv2.out_channels
    count, channels = len(x) * side * side, norm.num_features
    step = max(1, ROWS // (side * side)) * side * side  # whole images
    buffer = x.new_empty((count, channels), dtype=dtype)
    copy_rows(_rows(x.to(dtype)), buffer[:, :c])
    room = buffer.new_empty(min(step, count) * channels, dtype=dtype)
    batch = BatchStatistics(channels, norm.weight, count) if norm.training else None
    if batch is not None:
        batch.measure(buffer[:, :c], 0, norm.eps)
    kept, measured = [], []
    h = buffer.new_empty(0)
    for layer in layers:
        scale, shift = affine(layer.bn1) if batch is None else batch.affine(layer.bn1)
        w1, w2 = layer.conv1.weight[:, :, 0, 0], layer.conv2.weight.to(dtype, memory_format=torch.channels_last)
        if keep or not len(h):
            h = buffer.new_empty((count, len(w1)), dtype=dtype)
        if batch is None:
            scale2, shift2 = affine(layer.bn2)
            w1, one, inner = (w1 * scale2.unsqueeze(1)).to(dtype), torch.ones_like(scale2), None
            for part in _parts(count, step):
                a = _activated(buffer[part, :c], scale, shift, room)
                relu_affine(torch.mm(a, w1.t(), out=h[part]), one, shift2, h[part])
                copy_rows(_rows(F.conv2d(_maps(h[part], side), w2, padding=1)), buffer[part, c : c + growth])
        else:
            w1 = w1.to(dtype)
            for part in _parts(count, step):
                torch.mm(_activated(buffer[part, :c], scale, shift, room), w1.t(), out=h[part])
            inner = BatchStatistics(h.shape[1], norm.weight, count)
            inner.measure(h, 0, layer.bn2.eps)
            m = relu_affine(h, *inner.affine(layer.bn2), torch.empty_like(h))
            new = _rows(F.conv2d(_maps(m, side), w2, padding=1))
            batch.measure(new, c, layer.bn1.eps)
            copy_rows(new, buffer[:, c : c + growth])
            measured += [(layer.bn1, batch.mean[:c], batch.var[:c]), (layer.bn2, inner.mean, inner.var)]
        if keep:
            kept.append((layer, h, scale, shift, w1, w2, inner))
        c += growth
    scale, shift = affine(norm) if batch is None else batch.affine(norm)
    if batch is not None:
        move_running([*measured, (norm, batch.mean, batch.var)], count)
    pooled = [
        F.avg_pool2d(_maps(_activated(buffer[part], scale, shift, room), side), pool) for part in _parts(count, step)
    ]
    return torch.cat(pooled), (buffer, kept, scale, shift, batch, side, pool, step, x.shape[1], dtype) if keep else None


def _backward(
    gradient: Tensor, learns: bool, buffer: Tensor, kept: list[Any], scale: Tensor, shift: Tensor,
    batch: BatchStatistics | None, side: int, pool: int, step: int, first: int, dtype: torch.dtype,
) -> Any:  # fmt: skip
    count, c = buffer.shape
    room = buffer.new_empty(min(step, count) * c, dtype=dtype)
    found = torch.zeros_like(buffer)  # the gradient of the buffer
    gradients: list[Tensor | None] = []

    totals = buffer.new_zeros((2, c), dtype=torch.float64)
    if batch is not None:
        batch.begin_backward()
    # (N, C, H / pool, W / pool) -> (N, H / pool, 1, W / pool, 1, C), to be spread over the pooled squares
    pooled = (gradient.to(dtype) / pool**2).permute(0, 2, 3, 1)[:, :, None, :, None]
    for part, d in zip(_parts(count, step), torch.split(pooled, step // side**2), strict=True):
        d = d.expand(-1, -1, pool, -1, pool, -1).reshape(-1, c)
        relu_affine_backward(d, buffer[part], scale, shift, found[part], totals if batch is not None else None)
    if batch is not None:
        gradients = list(batch.absorb(scale, totals))

    for layer, h, scale, shift, w1, w2, inner in reversed(kept):
        c -= (growth := len(w2))
        new = slice(c, c + growth)
        totals = buffer.new_zeros((2, c), dtype=torch.float64)
        dw1 = torch.zeros_like(layer.conv1.weight[:, :, 0, 0]) if learns else None
        if batch is None:
            for part in _parts(count, step):
                g = _maps(copy_rows(found[part, new], h.new_empty((len(found[part]), growth))), side)
                dh, _ = _conv_backward(g, _maps(h[part], side), w2, False)
                dh = _rows(threshold_backward(dh, _maps(h[part], side), 0))
                d = torch.mm(dh, w1, out=room[: len(dh) * c].view(-1, c))
                relu_affine_backward(d, buffer[part, :c], scale, shift, found[part, :c])
        else:
            g = _maps(batch.corrected(found, buffer, new), side)
            inner.begin_backward()
            scale2, shift2 = inner.affine(layer.bn2)
            m = relu_affine(h, scale2, shift2, torch.empty_like(h))
            dm, dw2 = _conv_backward(g, _maps(m, side), w2, learns)
            dh, totals2 = torch.zeros_like(h), buffer.new_zeros((2, h.shape[1]), dtype=torch.float64)
            relu_affine_backward(_rows(dm), h, scale2, shift2, dh, totals2)
            dweight, dbias = inner.absorb(scale2, totals2)
            dh = inner.corrected(dh, h, slice(None))
            for part in _parts(count, step):
                if dw1 is not None:
                    dw1 += dh[part].t() @ _activated(buffer[part, :c], scale, shift, room)
                d = torch.mm(dh[part], w1, out=room[: len(dh[part]) * c].view(-1, c))
                relu_affine_backward(d, buffer[part, :c], scale, shift, found[part, :c], totals)
            own = batch.absorb(scale, totals)
            gradients = [*own, dw1 if dw1 is None else dw1[:, :, None, None], dweight, dbias, dw2, *gradients]
    whole = found[:, :first] if batch is None else batch.corrected(found, buffer, slice(first))
    return _maps(whole.contiguous(), side), gradients if learns else None


def _conv_backward(g: Tensor, x: Tensor, w: Tensor, learns: bool) -> tuple[Tensor, Tensor | None]:
    """Gradients of a 3x3 convolution's input and, if it learns, of its weight in the features' type."""
    dx, dw, _ = convolution_backward(g, x, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, learns, False])
    return dx, dw
