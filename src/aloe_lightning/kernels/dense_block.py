"""A dense block with the BN-ReLU and the pooling after it, as one operation on one buffer of feature maps.

Layer by layer, a DenseNet spends its time moving memory: every layer copies all channels before it (concatenation) and
normalises them afresh, and autograd keeps each copy. Here, with the same parameters and outputs (up to rounding):

- Each layer writes its channels into one buffer (pixels, channels); nothing is concatenated.
- A channel's batch statistics are the same for every layer that reads it: they are computed once, and so is what they
  add to its gradient.
- ReLU(BN(.)) is never kept: `kernels` computes it where a convolution, forward or backward, reads it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from aloe_lightning.kernels.batch_statistics import Affine, BatchStatistics
from aloe_lightning.kernels.operations import (
    as_maps,
    as_rows,
    corrected,
    features,
    moments,
    norm_conv,
    norm_conv_backward,
    norm_pool,
    norm_pool_backward,
    pack,
    pack_backward,
)


class Layer(Protocol):
    """BN-ReLU-conv1x1-BN-ReLU-conv3x3."""

    bn1: nn.BatchNorm2d
    conv1: nn.Conv2d
    bn2: nn.BatchNorm2d
    conv2: nn.Conv2d


class _Kept(NamedTuple):
    """What the backward pass of a layer needs; `outer` is of the buffer's channels, `inner` of those between, `h`."""

    h: Tensor
    outer: Affine
    inner: Affine
    statistics: BatchStatistics
    weights: list[Tensor]


def fused_dense_block(x: Tensor, layers: Sequence[Layer], norm: nn.BatchNorm2d, pool: int) -> Tensor:
    """Run a dense block, the BatchNorm after it, ReLU and average pooling, all normalised by the batch.

    Running statistics move where a BatchNorm tracks them.

    Args:
        x: maps (N, C, H, H).
        layers: bottlenecks; layer i reads C + i * growth channels and adds growth.
        norm: reads all channels.
        pool: side of the pooled squares.

    Returns:
        Pooled maps (N, C + len(layers) * growth, H / pool, H / pool), in autocast's type where it is on.
    """
    parameters = [
        p
        for layer in layers
        for p in (
            layer.bn1.weight, layer.bn1.bias, layer.conv1.weight, layer.bn2.weight, layer.bn2.bias, layer.conv2.weight,
        )
    ]  # fmt: skip
    parameters += [norm.weight, norm.bias]
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in [x, *parameters])
    pooled: Tensor = _FusedDenseBlock.apply(x, layers, norm, pool, feature_type(norm), keep, *parameters)
    return pooled


def feature_type(norm: nn.BatchNorm2d) -> torch.dtype:
    """Autocast's where it is on, else the parameters'."""
    kind = norm.weight.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else norm.weight.dtype


class _FusedDenseBlock(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, layers: Sequence[Layer], norm: nn.BatchNorm2d, pool: int, dtype: torch.dtype, keep: bool,
        *_: Tensor,
    ) -> Tensor:  # fmt: skip
        with torch.autocast(x.device.type, enabled=False):
            pooled, ctx.saved = _forward(x, layers, norm, pool, dtype, keep)
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        learns = ctx.needs_input_grad[-1]
        with torch.autocast(gradient.device.type, enabled=False):
            inputs, gradients = _backward(gradient, learns, *ctx.saved)
        return inputs, None, None, None, None, None, *(gradients if learns else [None] * len(gradients))


def _forward(
    x: Tensor, layers: Sequence[Layer], norm: nn.BatchNorm2d, pool: int, dtype: torch.dtype, keep: bool
) -> tuple[Tensor, Any]:
    c, side = x.shape[1], x.shape[2]
    rows = as_rows(x.to(dtype))
    buffer = features(len(rows), norm.num_features, rows)
    buffer[:, :c] = rows
    batch = BatchStatistics(norm, len(rows))
    batch.measure(moments(buffer[:, :c]), 0, norm.eps)
    kept: list[_Kept] = []
    h = buffer.new_empty(0)
    for layer in layers:
        growth = layer.conv2.out_channels
        if keep or not len(h):
            h = buffer.new_empty((len(rows), layer.conv1.out_channels))
        outer = batch.affine(layer.bn1)
        inner = BatchStatistics(layer.bn2, len(rows))
        inner.measure(norm_conv(buffer[:, :c], *outer, pack(layer.conv1.weight, dtype), 1, side, h), 0, layer.bn2.eps)
        between, new = inner.affine(layer.bn2), buffer[:, c : c + growth]
        batch.measure(norm_conv(h, *between, pack(layer.conv2.weight, dtype), 3, side, new), c, layer.bn1.eps)
        if keep:
            weights = [pack_backward(conv.weight, dtype) for conv in (layer.conv1, layer.conv2)]
            kept.append(_Kept(h, outer, between, inner, weights))
        c += growth
    last = batch.affine(norm)
    pooled = buffer.new_empty((len(rows) // pool**2, c))
    norm_pool(buffer, *last, side, pool, pooled)
    return as_maps(pooled, side // pool), (buffer, kept, last, batch, side, pool, x.shape[1]) if keep else None


def _backward(
    gradient: Tensor, learns: bool, buffer: Tensor, kept: list[_Kept], last: Affine, batch: BatchStatistics,
    side: int, pool: int, first: int,
) -> tuple[Tensor, list[Tensor | None]]:  # fmt: skip
    c = buffer.shape[1]
    found = features(len(buffer), c, buffer)  # the gradient of the buffer
    batch.begin_backward()
    totals = norm_pool_backward(as_rows(gradient.to(buffer.dtype)), buffer, *last, side, pool, found)
    gradients: list[Tensor | None] = list(batch.absorb(last.scale, totals))
    growth = (c - first) // len(kept)
    for h, outer, inner, statistics, (w1, w2) in reversed(kept):
        c -= growth
        new, dh = slice(c, c + growth), torch.empty_like(h)
        statistics.begin_backward()
        totals, dw2 = norm_conv_backward(
            found[:, new], buffer[:, new], batch.correction(new), h, *inner, w2, 3, side, dh,
            add=False, learns=learns,
        )  # fmt: skip
        dnorm2 = statistics.absorb(inner.scale, totals)
        totals, dw1 = norm_conv_backward(
            dh, h, statistics.correction(slice(None)), buffer[:, :c], *outer, w1, 1, side, found[:, :c],
            add=True, learns=learns,
        )  # fmt: skip
        gradients = [*batch.absorb(outer.scale, totals), dw1, *dnorm2, dw2, *gradients]
    whole = corrected(found[:, :first], buffer[:, :first], batch.correction(slice(first)))
    return as_maps(whole, side), gradients
