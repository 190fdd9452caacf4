"""BatchNorm for channels that many layers read: the statistics of the batch are computed once for all of them."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Affine(NamedTuple):
    """A BatchNorm as an affine map of its channels: x * scale + shift, each (C,)."""

    scale: Tensor
    shift: Tensor


def eval_affine(norm: nn.BatchNorm2d, dtype: torch.dtype) -> Affine:
    """Return the affine map of a BatchNorm in eval mode."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return Affine(scale.to(dtype), (norm.bias - norm.running_mean * scale).to(dtype))


class BatchStatistics:
    """Statistics of a batch of `count` pixels for each channel of a BatchNorm, and accumulators of their gradient."""

    def __init__(self, norm: nn.BatchNorm2d, count: int) -> None:
        dtype = torch.promote_types(norm.weight.dtype, torch.float32)
        self.count = count
        self.mean, self.var, self.rstd = norm.weight.new_zeros((3, norm.num_features), dtype=dtype)
        self.reset_gradients()

    def add_channels(self, moments: Tensor, start: int, eps: float) -> None:
        """Set mean and variance (2, c) of the c channels from `start` on."""
        new = slice(start, start + moments.shape[1])
        self.mean[new], self.var[new], self.rstd[new] = *moments, (moments[1] + eps).rsqrt()

    def affine(self, norm: nn.BatchNorm2d) -> Affine:
        """Return the affine map of a norm that reads the first channels, and update its running statistics."""
        c = norm.num_features
        if norm.track_running_stats and norm.running_mean is not None:
            assert norm.running_var is not None
            assert norm.momentum is not None
            assert norm.num_batches_tracked is not None
            unbiased = self.var[:c] * (self.count / max(self.count - 1, 1))
            norm.running_mean.lerp_(self.mean[:c].to(norm.running_mean.dtype), norm.momentum)
            norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), norm.momentum)
            norm.num_batches_tracked += 1
        scale = norm.weight * self.rstd[:c]
        return Affine(scale, norm.bias - self.mean[:c] * scale)

    def reset_gradients(self) -> None:
        """Reset the gradient accumulators."""
        self.gradient_mean, self.gradient_slope = torch.zeros_like(self.mean), torch.zeros_like(self.mean)

    def accumulate_gradient(self, scale: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
        """Accumulate the gradient of one norm, and return the gradients of its weight and bias, each (C,).

        `scale` is that of its affine map (C,); `sums` are sums over rows of the gradient d of its output and of d * x.
        """
        c = len(scale)
        totals, products = sums
        centred = (products - self.mean[:c] * totals).to(scale.dtype)
        totals = totals.to(scale.dtype)
        self.gradient_mean[:c] += scale * totals / self.count
        self.gradient_slope[:c] += scale * centred * self.rstd[:c] ** 2 / self.count
        return centred * self.rstd[:c], totals

    def gradient_terms(self, channels: slice) -> Tensor:
        """Return slope and offset (2, c): the batch statistics add slope * x + offset to the gradient of x."""
        slope = self.gradient_slope[channels]
        return torch.stack([-slope, self.mean[channels] * slope - self.gradient_mean[channels]])
