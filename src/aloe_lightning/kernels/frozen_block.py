"""A dense block of a net that does not learn, as one compiled operation: what an attack asks for, and nothing more.

Without batch statistics images have nothing in common: each goes through all layers in a core's cache, forward for the
outputs, backward for the gradient of the inputs.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from aloe_lightning.kernels import compiler
from aloe_lightning.kernels.dense_block import Layer, feature_type
from aloe_lightning.kernels.operations import as_maps, as_rows, features, pack, pack_backward


def frozen_dense_block(x: Tensor, layers: Sequence[Layer], norm: nn.BatchNorm2d, pool: int) -> Tensor:
    """Run a dense block, the BatchNorm after it, ReLU and average pooling, all in eval mode.

    Args:
        x: maps (N, C, H, H) on a CPU for which there are kernels.
        layers: bottlenecks; layer i reads C + i * growth channels and adds growth.
        norm: reads all channels.
        pool: side of the pooled squares.

    Returns:
        Pooled maps (N, C + len(layers) * growth, H / pool, H / pool), in autocast's type where it is on. No gradient
        reaches a parameter.
    """
    pooled: Tensor = _FrozenDenseBlock.apply(x, layers, norm, pool, torch.is_grad_enabled() and x.requires_grad)
    return pooled


class _FrozenDenseBlock(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layers: Sequence[Layer], norm: nn.BatchNorm2d, pool: int, keep: bool) -> Tensor:
        dtype = feature_type(norm)
        with torch.autocast(x.device.type, enabled=False):
            c, side, hidden = x.shape[1], x.shape[2], layers[0].conv1.out_channels
            rows = as_rows(x.to(dtype))
            buffer = features(len(rows), norm.num_features, rows)
            buffer[:, :c] = rows
            norms = [*(one for layer in layers for one in (layer.bn1, layer.bn2)), norm]
            affines = [each for one in norms for each in _affine(one, torch.promote_types(dtype, torch.float32))]
            weights = [conv.weight for layer in layers for conv in (layer.conv1, layer.conv2)]
            kept = buffer.new_empty((len(layers) if keep else 1, len(rows) if keep else 0, hidden))
            pooled = buffer.new_empty((len(rows) // pool**2, norm.num_features))
            packed = [pack(weight, dtype) for weight in weights]
            compiler.library().frozen(buffer, c, affines, packed, side, pool, kept, pooled)
            if keep:
                ctx.saved = buffer, c, affines, [pack_backward(weight, dtype) for weight in weights], side, pool, kept
            return as_maps(pooled, side // pool)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        buffer, c, affines, weights, side, pool, kept = ctx.saved
        with torch.autocast(gradient.device.type, enabled=False):
            rows, out = as_rows(gradient.to(buffer.dtype)), buffer.new_empty((len(buffer), c))
            compiler.library().frozen_backward(buffer, rows, affines, weights, side, pool, kept, out)
        return as_maps(out, side), None, None, None, None


def _affine(norm: nn.BatchNorm2d, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Scale and shift of a BatchNorm in eval mode."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale.to(dtype), (norm.bias - norm.running_mean * scale).to(dtype)
