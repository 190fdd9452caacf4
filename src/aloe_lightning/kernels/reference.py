"""BatchNorm-ReLU-convolution on features (see `features.py`), forward and backward, in PyTorch operations.

They define the operations of `native/`, which compute the same in one pass over the memory, and replace them where
those are not available. Scales and shifts are (C,) in the type of the sums: float64 for float64 features, otherwise
float32. `side` is the width and height of an image in pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight

from aloe_lightning.kernels.features import as_maps, as_rows


def pack_weight(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert the weight of a convolution (O, C, k, k) to the form that `norm_conv` takes."""
    return weight.to(dtype)


def norm_conv(x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, kernel: int, side: int, out: Tensor) -> Tensor:
    """Convolve relu(x * scale + shift); images are padded with zeros and keep their size.

    `x` is (M, C), `weight` packed (O, C, kernel, kernel) with an odd kernel size; `out` receives the result (M, O).

    Returns:
        Mean and (biased) variance of the outputs over rows, (2, O) float64.
    """
    maps = as_maps(_norm_relu(x, scale, shift).to(x.dtype), side)
    return moments(out.copy_(as_rows(F.conv2d(maps, weight, padding=kernel // 2))))


def norm_conv_backward(
    gradient: Tensor, features: Tensor, terms: Tensor, x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor,
    kernel: int, side: int, input_gradient: Tensor, add: bool, needs_weight_gradient: bool,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Compute the gradients of `norm_conv`, given its outputs `features` and their gradient, both (M, O).

    `terms` are those of `add_batchnorm_terms`, which `gradient` does not contain. `weight` is the packed transposed
    kernel, (C, O, kernel, kernel). `input_gradient` receives the gradient of x (M, C), added to its content if `add`.

    Returns:
        Sums over rows of d and of d * x, (2, C) float64, where d is the gradient of x * scale + shift; and the gradient
        of the weight (O, C, kernel, kernel) in the type of `scale`, or None.
    """
    total = add_batchnorm_terms(gradient, features, terms, torch.empty_like(gradient))
    maps, activated = as_maps(total, side), _norm_relu(x, scale, shift)
    weight_gradient = None
    if needs_weight_gradient:
        size, inputs = [len(weight[0]), len(weight), kernel, kernel], as_maps(activated.to(x.dtype), side)
        weight_gradient = conv2d_weight(inputs, size, maps, padding=kernel // 2)  # type: ignore[no-untyped-call]
        weight_gradient = weight_gradient.to(scale.dtype)
    d = as_rows(F.conv2d(maps, weight, padding=kernel // 2))
    return _relu_gradient(d, x, scale, activated, input_gradient, add), weight_gradient


def norm_pool(x: Tensor, scale: Tensor, shift: Tensor, side: int, pool: int, out: Tensor) -> None:
    """Average relu(x * scale + shift) over windows of pool * pool pixels; `out` receives the result (M / pool^2, C)."""
    out.copy_(as_rows(F.avg_pool2d(as_maps(_norm_relu(x, scale, shift), side), pool)))


def norm_pool_backward(
    gradient: Tensor, x: Tensor, scale: Tensor, shift: Tensor, side: int, pool: int, input_gradient: Tensor
) -> Tensor:
    """Write the gradient of `norm_pool` to `input_gradient` (M, C); return the sums of `norm_conv_backward`."""
    windows = (gradient.to(scale.dtype) / pool**2).view(-1, side // pool, 1, side // pool, 1, len(scale))
    d = windows.expand(-1, -1, pool, -1, pool, -1).reshape(x.shape)
    return _relu_gradient(d, x, scale, _norm_relu(x, scale, shift), input_gradient, False)


def add_batchnorm_terms(gradient: Tensor, features: Tensor, terms: Tensor, out: Tensor) -> Tensor:
    """Write gradient + slope * features + offset to `out`: the gradient with the part through batch statistics.

    All are (M, C), but for `terms`: slope and offset (2, C), from `BatchStatistics.gradient_terms`.
    """
    slope, offset = terms
    return out.copy_(torch.addcmul(gradient + offset, features, slope))


def moments(x: Tensor) -> Tensor:
    """Return mean and (biased) variance over rows of features (M, C): (2, C) float64."""
    var, mean = torch.var_mean(x.to(torch.promote_types(x.dtype, torch.float32)), 0, correction=0)
    return torch.stack([mean, var]).double()


def _relu_gradient(d: Tensor, x: Tensor, scale: Tensor, activated: Tensor, input_gradient: Tensor, add: bool) -> Tensor:
    """Propagate the gradient d of relu(x * scale + shift) to x; return the sums of `norm_conv_backward`."""
    d = (d * (activated > 0)).to(scale.dtype)
    input_gradient.copy_(input_gradient + d * scale if add else d * scale)
    return torch.stack([d.sum(0), (d * x).sum(0)]).double()


def _norm_relu(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return relu(x * scale + shift) in the type of `scale`."""
    return torch.addcmul(shift, x, scale).relu_()
