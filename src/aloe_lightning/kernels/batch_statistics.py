"""BatchNorm of channels that many layers read: the batch's statistics, once for all readers."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Affine(NamedTuple):
    """What a BatchNorm does to its channels: x * scale + shift, each (C,)."""

    scale: Tensor
    shift: Tensor


class BatchStatistics:
    """Statistics of the batch for each channel, and what they add to its gradient.

    Args:
        norm: the BatchNorm that reads all channels.
        count: rows that they are of.
    """

    def __init__(self, norm: nn.BatchNorm2d, count: int) -> None:
        dtype = torch.promote_types(norm.weight.dtype, torch.float32)
        self.count = count
        self.mean, self.var, self.rstd = norm.weight.new_zeros((3, norm.num_features), dtype=dtype)
        self.begin_backward()

    def measure(self, moments: Tensor, start: int, eps: float) -> None:
        """Count in new channels, from `start` on: mean and variance (2, c)."""
        new = slice(start, start + moments.shape[1])
        self.mean[new], self.var[new] = moments
        self.rstd[new] = (moments[1] + eps).rsqrt()

    def affine(self, norm: nn.BatchNorm2d) -> Affine:
        """What a norm does that reads the first channels; moves its running statistics."""
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

    def begin_backward(self) -> None:
        """No reader's gradient has been taken in yet."""
        self.level, self.slope = torch.zeros_like(self.mean), torch.zeros_like(self.mean)

    def absorb(self, scale: Tensor, totals: Tensor) -> tuple[Tensor, Tensor]:
        """Take in a reader's sums over rows of d and of d * x, (2, C); the gradients of its weight and bias."""
        c = len(scale)
        sums, products = totals
        centred = (products - self.mean[:c] * sums).to(scale.dtype)
        sums = sums.to(scale.dtype)
        self.level[:c] += scale * sums / self.count
        self.slope[:c] += scale * centred * self.rstd[:c] ** 2 / self.count
        return centred * self.rstd[:c], sums

    def correction(self, channels: slice) -> Tensor:
        """Slope and level (2, c): the statistics add slope * x + level to the gradient of channels."""
        slope = self.slope[channels]
        return torch.stack([-slope, self.mean[channels] * slope - self.level[channels]])
