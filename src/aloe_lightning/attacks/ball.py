"""Linf and L2 balls around images, intersected with [0, 1]: projections, steps and random points."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Norm = Literal["linf", "l2"]
"""The norm of a perturbation: `linf`, the largest change of a value; `l2`, the Euclidean norm over all values."""
TINY = 1e-12


def l2_norms(values: Tensor) -> Tensor:
    """Return the Euclidean norm of each image, shaped (N, 1, 1, 1)."""
    norms: Tensor = torch.linalg.vector_norm(values.flatten(1), dim=1)
    return norms.view(-1, *(1,) * (values.dim() - 1))


@dataclass(frozen=True)
class Ball:
    """The images within a distance of each clean image, and within [0, 1].

    Attributes:
        norm: norm of the perturbation, over all values of an image.
        eps: radius, in [0, 1] pixels for both norms: an Linf radius of 1/255 changes each value by at most one step of
            an 8-bit image, an L2 radius of 128/255 has Euclidean norm 0.502.
    """

    norm: Norm
    eps: float

    def __post_init__(self) -> None:
        if self.eps < 0 or self.norm not in ("linf", "l2"):
            raise ValueError(f"norm must be linf or l2 and eps not negative; got {self.norm!r} and {self.eps}")

    def project(self, images: Tensor, clean: Tensor) -> Tensor:
        """Return the projection of images (N, C, H, W) on the ball, then clipped to [0, 1].

        Clean images lie in [0, 1], so that clipping brings no value farther from its clean one.
        """
        if self.norm == "linf":
            return images.clamp(min=(clean - self.eps).clamp_(min=0), max=(clean + self.eps).clamp_(max=1))
        delta = images - clean
        return (clean + delta * (self.eps / l2_norms(delta).clamp(min=max(self.eps, TINY)))).clamp_(0, 1)

    def steepest(self, gradient: Tensor) -> Tensor:
        """Return the steepest ascent direction of unit norm: the sign, or the gradient divided by its L2 norm.

        The direction of a gradient of zero is zero.
        """
        if self.norm == "linf":
            return gradient.sign()
        largest = gradient.flatten(1).abs().amax(1).view(-1, *(1,) * (gradient.dim() - 1))
        scaled = gradient / largest.clamp(min=torch.finfo(gradient.dtype).tiny)  # the square of 1e-30 would vanish
        return scaled / l2_norms(scaled).clamp(min=TINY)

    def start(self, clean: Tensor, noise: Tensor) -> Tensor:
        """Return the point of the ball that noise in [-1, 1] of the images' shape chooses.

        Linf: eps * noise. L2: the direction of the noise, at radius eps.
        """
        noise = noise.to(clean)
        if self.norm == "l2":
            noise = noise / l2_norms(noise).clamp(min=TINY)
        return self.project(clean + self.eps * noise, clean)
