"""A dense block of a frozen net as one compiled operation: the gradient of its inputs is all that an attack needs.

In eval mode images are independent of each other: each goes through all layers while it is in a core's cache, forward
for the outputs, backward for the gradient of the inputs.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from aloe_lightning.kernels import compiler
from aloe_lightning.kernels.batchnorm import eval_affine
from aloe_lightning.kernels.dense_block import BottleneckLayer
from aloe_lightning.kernels.features import as_maps, as_rows, block_features, feature_dtype


def frozen_dense_block(x: Tensor, layers: Sequence[BottleneckLayer], norm: nn.BatchNorm2d, pool: int) -> Tensor:
    """Run a dense block, the BatchNorm after it, ReLU and average pooling, all in eval mode.

    Arguments and result are those of `fused_dense_block`, where `has_kernels(norm)`. No gradient reaches a parameter.
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
            library = compiler.library()
            size = (len(layers), len(buffer)) if keep else (1, 0)
            hidden = buffer.new_empty((*size, layers[0].conv1.out_channels))
            pooled = buffer.new_empty((len(buffer) // pool**2, norm.num_features))
            packed = [library.pack_weight(weight, dtype) for weight in weights]
            library.frozen_block(buffer, c, affines, packed, side, pool, hidden, pooled)
            if keep:
                packed = [compiler.pack_weight_backward(weight, dtype) for weight in weights]
                ctx.saved = buffer, c, affines, packed, side, pool, hidden
            return as_maps(pooled, side // pool)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        buffer, c, affines, weights, side, pool, hidden = ctx.saved
        with torch.autocast(gradient.device.type, enabled=False):
            rows, out = as_rows(gradient.to(buffer.dtype)), buffer.new_empty((len(buffer), c))
            compiler.library().frozen_block_backward(buffer, rows, affines, weights, side, pool, hidden, out)
        return as_maps(out, side), None, None, None, None
