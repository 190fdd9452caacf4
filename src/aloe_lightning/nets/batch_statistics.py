"""BatchNorm of channels that many layers read: their statistics, once for all readers."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from aloe_lightning.nets.kernels import combine, moments


class BatchStatistics:
    """Statistics of the batch for every channel of the buffer, and what they add to its gradient."""

    def __init__(self, channels: int, like: Tensor, count: int) -> None:
        self.count = count
        self.mean, self.var, self.rstd = (like.new_empty(channels) for _ in range(3))
        self.begin_backward()

    def begin_backward(self) -> None:
        """Nothing has read the channels yet: the gradient's mean and its slope along the features are 0."""
        self.level, self.slope = torch.zeros_like(self.mean), torch.zeros_like(self.mean)

    def measure(self, features: Tensor, start: int, eps: float) -> None:
        """Count in new channels (M, C), from `start` on."""
        mean, var = moments(features)
        new = slice(start, start + features.shape[1])
        self.mean[new], self.var[new] = mean, var
        self.rstd[new] = (var + eps).rsqrt()

    def affine(self, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
        """Scale and shift that normalise the first channels and apply a norm's weight and bias."""
        c = norm.num_features
        scale = norm.weight * self.rstd[:c]
        return scale, norm.bias - self.mean[:c] * scale

    def absorb(self, scale: Tensor, totals: Tensor) -> tuple[Tensor, Tensor]:
        """Take in one reader's sums over the batch of d and of d x, (2, C); the gradients of its weight and bias."""
        c = len(scale)
        sums, products = totals
        centred = (products - self.mean[:c] * sums).to(scale.dtype)
        sums = sums.to(scale.dtype)
        self.level[:c] += scale * sums / self.count
        self.slope[:c] += scale * centred * self.rstd[:c] ** 2 / self.count
        return centred * self.rstd[:c], sums

    def corrected(self, gradient: Tensor, features: Tensor, new: slice) -> Tensor:
        """The whole gradient (M, c) of channels that all their readers have added to."""
        slope = self.slope[new]
        factors = torch.stack([torch.ones_like(slope), -slope, self.mean[new] * slope - self.level[new]])
        return combine(gradient[:, new], features[:, new], factors, gradient.new_empty((len(gradient), len(slope))))


def affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Scale and shift of a BatchNorm in eval mode."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale


@torch.no_grad()
def move_running(norms: Sequence[tuple[nn.BatchNorm2d, Tensor, Tensor]], count: int) -> None:
    """Running statistics of norms that track them, from (norm, mean, variance) of the batch."""
    for norm, mean, var in norms:
        if norm.track_running_stats and norm.running_mean is not None:
            assert norm.running_var is not None
            assert norm.momentum is not None
            assert norm.num_batches_tracked is not None
            norm.running_mean.lerp_(mean, norm.momentum)
            norm.running_var.lerp_(var * (count / max(count - 1, 1)), norm.momentum)
            norm.num_batches_tracked += 1
