"""Memory layout of a dense block's features.

Features are (M, C), M = N * side * side pixels of N images. The channels of a row are contiguous; rows may be strided.
"""

import torch
from torch import Tensor, nn


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


def block_features(x: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
    """Allocate features of all channels of a block, and copy its input maps (N, C, H, H) to the first of them."""
    rows = as_rows(x.to(dtype))
    features = empty_features(len(rows), channels, rows)
    features[:, : x.shape[1]] = rows
    return features
