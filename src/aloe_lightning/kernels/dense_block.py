"""Dense blocks with BatchNorm, ReLU and pooling as one operation on one feature buffer, in training and frozen.

A DenseNet run layer by layer is memory-bound: every layer copies all previous channels (concatenation) and normalises
them again, and autograd keeps each copy. This version is equivalent up to rounding:

- Each layer writes its channels into one buffer (pixels, channels); nothing is concatenated.
- The batch statistics of a channel, and their gradient terms, are computed once, because every layer that reads the
  channel has the same ones.
- ReLU(BN(.)) is never stored; it is recomputed inside each convolution, forward and backward (`reference.py`).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from aloe_lightning.kernels.batchnorm import Affine, BatchStatistics, eval_affine
from aloe_lightning.kernels.compiler import operations, pack_weight_backward
from aloe_lightning.kernels.features import as_maps, as_rows, block_features, empty_features, feature_dtype


class BottleneckLayer(Protocol):
    """BN-ReLU-conv1x1-BN-ReLU-conv3x3."""

    bn1: nn.BatchNorm2d
    conv1: nn.Conv2d
    bn2: nn.BatchNorm2d
    conv2: nn.Conv2d


class LayerState(NamedTuple):
    """Values from a layer's forward pass that its backward pass needs."""

    hidden: Tensor  # outputs of conv1 (M, hidden channels)
    affine1: Affine
    affine2: Affine
    statistics: BatchStatistics  # of `hidden`
    weights: list[Tensor]  # of conv1 and conv2, packed for the backward pass


def fused_dense_block(x: Tensor, layers: Sequence[BottleneckLayer], norm: nn.BatchNorm2d, pool: int) -> Tensor:
    """Run a dense block, the BatchNorm after it, ReLU and average pooling; all norms use batch statistics.

    Running statistics are updated if a BatchNorm tracks them.

    Args:
        x: feature maps (N, C, H, H).
        layers: layer i reads C + i * growth channels and adds growth channels.
        norm: BatchNorm of all channels, after the last layer.
        pool: width and height of a pooling window.

    Returns:
        Pooled maps (N, C + len(layers) * growth, H / pool, H / pool), in the autocast dtype if autocast is enabled.
    """
    modules = [module for layer in layers for module in (layer.bn1, layer.conv1, layer.bn2, layer.conv2)]
    parameters = [parameter for module in (*modules, norm) for parameter in module.parameters()]
    save_for_backward = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in [x, *parameters])
    pooled: Tensor = _FusedDenseBlock.apply(x, layers, norm, pool, feature_dtype(norm), save_for_backward, *parameters)
    return pooled


class _FusedDenseBlock(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, layers: Sequence[BottleneckLayer], norm: nn.BatchNorm2d, pool: int, dtype: torch.dtype,
        save_for_backward: bool, *_: Tensor,
    ) -> Tensor:  # fmt: skip
        with torch.autocast(x.device.type, enabled=False):
            ops = operations(x.device, dtype)
            c, side = x.shape[1], x.shape[2]
            buffer = block_features(x, norm.num_features, dtype)
            batch = BatchStatistics(norm, len(buffer))
            batch.add_channels(ops.moments(buffer[:, :c]), 0, norm.eps)
            states: list[LayerState] = []
            h = buffer.new_empty(0)
            for layer in layers:
                new = buffer[:, c : c + layer.conv2.out_channels]
                if save_for_backward or not len(h):
                    h = buffer.new_empty((len(buffer), layer.conv1.out_channels))
                affine1, weight1 = batch.affine(layer.bn1), ops.pack_weight(layer.conv1.weight, dtype)
                hidden = BatchStatistics(layer.bn2, len(buffer))
                hidden.add_channels(ops.norm_conv(buffer[:, :c], *affine1, weight1, 1, side, h), 0, layer.bn2.eps)
                affine2, weight2 = hidden.affine(layer.bn2), ops.pack_weight(layer.conv2.weight, dtype)
                batch.add_channels(ops.norm_conv(h, *affine2, weight2, 3, side, new), c, layer.bn1.eps)
                if save_for_backward:
                    weights = [pack_weight_backward(conv.weight, dtype) for conv in (layer.conv1, layer.conv2)]
                    states.append(LayerState(h, affine1, affine2, hidden, weights))
                c += layer.conv2.out_channels
            last = batch.affine(norm)
            pooled = buffer.new_empty((len(buffer) // pool**2, c))
            ops.norm_pool(buffer, *last, side, pool, pooled)
            if save_for_backward:
                ctx.saved = buffer, states, last, batch, side, pool, x.shape[1]
            return as_maps(pooled, side // pool)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        buffer, states, last, batch, side, pool, inputs = ctx.saved
        needs_weights = ctx.needs_input_grad[-1]
        with torch.autocast(gradient.device.type, enabled=False):
            ops = operations(buffer.device, buffer.dtype)
            c = buffer.shape[1]
            buffer_gradient = empty_features(len(buffer), c, buffer)
            batch.reset_gradients()
            rows = as_rows(gradient.to(buffer.dtype))
            sums = ops.norm_pool_backward(rows, buffer, *last, side, pool, buffer_gradient)
            gradients: list[Tensor | None] = list(batch.accumulate_gradient(last.scale, sums))
            growth = (c - inputs) // len(states)
            for h, affine1, affine2, hidden, (weight1, weight2) in reversed(states):
                c -= growth
                new, dh = slice(c, c + growth), torch.empty_like(h)
                hidden.reset_gradients()
                sums, dweight2 = ops.norm_conv_backward(
                    buffer_gradient[:, new], buffer[:, new], batch.gradient_terms(new),
                    h, *affine2, weight2, 3, side, dh, False, needs_weights,
                )  # fmt: skip
                dnorm2 = hidden.accumulate_gradient(affine2.scale, sums)
                sums, dweight1 = ops.norm_conv_backward(
                    dh, h, hidden.gradient_terms(slice(None)),
                    buffer[:, :c], *affine1, weight1, 1, side, buffer_gradient[:, :c], True, needs_weights,
                )  # fmt: skip
                gradients = [*batch.accumulate_gradient(affine1.scale, sums), dweight1, *dnorm2, dweight2, *gradients]
            gradient, features = buffer_gradient[:, :inputs], buffer[:, :inputs]
            total = gradient.new_empty(gradient.shape)
            ops.add_batchnorm_terms(gradient, features, batch.gradient_terms(slice(inputs)), total)
            returned = gradients if needs_weights else [None] * len(gradients)
            return as_maps(total, side), None, None, None, None, None, *returned


def frozen_dense_block(x: Tensor, layers: Sequence[BottleneckLayer], norm: nn.BatchNorm2d, pool: int) -> Tensor:
    """Run a dense block, the BatchNorm after it, ReLU and average pooling, all in eval mode.

    Arguments and result are those of `fused_dense_block`, where `has_kernels(norm)`. No gradient reaches a parameter:
    that of the inputs is all that an attack needs. In eval mode images are independent of each other: each goes through
    all layers while it is in a core's cache, forward for the outputs, backward for the gradient of the inputs.
    """
    pooled: Tensor = _FrozenDenseBlock.apply(x, layers, norm, pool, torch.is_grad_enabled() and x.requires_grad)
    return pooled


class _FrozenDenseBlock(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, layers: Sequence[BottleneckLayer], norm: nn.BatchNorm2d, pool: int, keep: bool
    ) -> Tensor:
        dtype = feature_dtype(norm)
        with torch.autocast(x.device.type, enabled=False):
            c, side = x.shape[1], x.shape[2]
            buffer = block_features(x, norm.num_features, dtype)
            norms = [*(bn for layer in layers for bn in (layer.bn1, layer.bn2)), norm]
            affines = [tensor for bn in norms for tensor in eval_affine(bn, torch.promote_types(dtype, torch.float32))]
            weights = [conv.weight for layer in layers for conv in (layer.conv1, layer.conv2)]
            ops = operations(x.device, dtype)
            size = (len(layers), len(buffer)) if keep else (1, 0)
            hidden = buffer.new_empty((*size, layers[0].conv1.out_channels))
            pooled = buffer.new_empty((len(buffer) // pool**2, norm.num_features))
            packed = [ops.pack_weight(weight, dtype) for weight in weights]
            ops.frozen_block(buffer, c, affines, packed, side, pool, hidden, pooled)
            if keep:
                packed = [pack_weight_backward(weight, dtype) for weight in weights]
                ctx.saved = buffer, c, affines, packed, side, pool, hidden
            return as_maps(pooled, side // pool)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        buffer, c, affines, weights, side, pool, hidden = ctx.saved
        with torch.autocast(gradient.device.type, enabled=False):
            rows, out = as_rows(gradient.to(buffer.dtype)), buffer.new_empty((len(buffer), c))
            operations(buffer.device, buffer.dtype).frozen_block_backward(
                buffer, rows, affines, weights, side, pool, hidden, out
            )
        return as_maps(out, side), None, None, None, None
