"""Class-conditional Gaussians with one covariance for all classes: the model behind the Mahalanobis score."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

RIDGE = 1e-6  # of the mean variance, where the covariance is singular

Arithmetic = Literal["float64", "float32"]
"""Arithmetic of the fit and of the score. `float32` is the authors': if a layer's covariance is nearly singular, as
after the first convolution of a DenseNet, their precision is mostly rounding noise, with negative eigenvalues (decision
009)."""


@dataclass(frozen=True)
class Gaussians:
    """Gaussians of K classes with a shared covariance.

    Attributes:
        means: (K, C).
        precision: inverse of the shared covariance (C, C), of the means' type.
        ridge: number added to the covariance's diagonal because it was singular; 0 if it was not.
    """

    means: Tensor
    precision: Tensor
    ridge: float = 0.0

    def distances(self, features: Tensor) -> Tensor:
        """Return squared Mahalanobis distances of features (N, C) to the classes: float64 (N, K), differentiable."""
        with torch.autocast(features.device.type, enabled=False):
            difference = features.to(self.means.dtype).unsqueeze(1) - self.means
            return ((difference @ self.precision) * difference).sum(2).double()

    def score(self, features: Tensor) -> Tensor:
        """Return M(x) = max_c -1/2 (f - mu_c)' P (f - mu_c): (N, C) -> float64 (N,), higher = nearer to a class."""
        return -0.5 * self.distances(features).amin(1)

    def to(self, device: torch.device) -> "Gaussians":
        """Return the Gaussians on another device."""
        return Gaussians(self.means.to(device), self.precision.to(device), self.ridge)


class GaussianFit:
    """Class means and shared covariance in one pass over the data, accumulated in float64.

    Args:
        num_classes: K.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self._shift: Tensor | None = None
        self._counts = torch.zeros(num_classes, dtype=torch.float64)
        self._sums = self._products = torch.empty(0)

    def add(self, features: Tensor, labels: Tensor) -> None:
        """Accumulate a batch: features (n, C), labels int64 (n,)."""
        values, classes = features.detach().double().cpu(), labels.cpu()
        if self._shift is None:
            # Sums of squares of values far from zero would cancel; the mean of the first batch is near enough.
            self._shift = values.mean(0)
            self._sums = torch.zeros(self.num_classes, values.shape[1], dtype=torch.float64)
            self._products = torch.zeros(values.shape[1], values.shape[1], dtype=torch.float64)
        values = values - self._shift
        self._counts += torch.bincount(classes, minlength=self.num_classes)
        self._sums.index_add_(0, classes, values)
        self._products += values.T @ values

    def result(self) -> Gaussians:
        """Return the Gaussians of all batches.

        Raises:
            ValueError: if a class has no sample.
        """
        if self._shift is None or not self._counts.all():
            raise ValueError(f"no samples of the classes {torch.nonzero(self._counts == 0).ravel().tolist()}")
        means = self._sums / self._counts.unsqueeze(1)
        # Sum over samples of (x - mu_class)(x - mu_class)' = sum of xx' less n_c mu_c mu_c' over classes.
        covariance = (self._products - (means * self._counts.unsqueeze(1)).T @ means) / self._counts.sum()
        precision, ridge = inverse((covariance + covariance.T) / 2)
        return Gaussians(means + self._shift, precision, ridge)


class AuthorsFit(GaussianFit):
    """Class means and shared covariance in the authors' arithmetic: all features at once, centred twice, in float32."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self._batches: list[tuple[Tensor, Tensor]] = []

    def add(self, features: Tensor, labels: Tensor) -> None:
        """Store a batch: features (n, C), labels int64 (n,)."""
        self._batches.append((features.detach().float().cpu(), labels.cpu()))

    def result(self) -> Gaussians:
        """Return the Gaussians of all batches, in float32."""
        features, labels = (torch.cat(parts) for parts in zip(*self._batches, strict=True))
        means = torch.stack([features[labels == label].mean(0) for label in range(self.num_classes)])
        centred = torch.cat([features[labels == label] - means[label] for label in range(self.num_classes)])
        covariance = torch.from_numpy(np.cov(centred.T.numpy(), bias=True, dtype=np.float32))
        precision, ridge = inverse(covariance.double())
        return Gaussians(means, precision.float(), ridge)


def inverse(covariance: Tensor) -> tuple[Tensor, float]:
    """Return the inverse of a covariance (C, C), and the ridge that made it invertible in float64 (0 if it was)."""
    values, axes = torch.linalg.eigh(covariance)
    ridge = 0.0
    if values.abs().min() <= values.abs().max() * len(values) * torch.finfo(values.dtype).eps:
        ridge = RIDGE * float(values.clamp(min=0).mean()) or 1.0  # if no feature varies, any ridge will do
        values = values.clamp(min=0) + ridge
    return (axes / values) @ axes.T, ridge


def fit_gaussians(
    batches: Iterable[tuple[list[Tensor], Tensor]], num_classes: int, arithmetic: Arithmetic = "float64"
) -> list[Gaussians]:
    """Fit the Gaussians of several layers.

    Args:
        batches: features of the layers, each (n, C_l), and labels (n,).
        num_classes: K.
        arithmetic: see `Arithmetic`.
    """
    fit_class = GaussianFit if arithmetic == "float64" else AuthorsFit
    fits: list[GaussianFit] = []
    for features, labels in batches:
        fits = fits or [fit_class(num_classes) for _ in features]
        for fit, layer in zip(fits, features, strict=True):
            fit.add(layer, labels)
    return [fit.result() for fit in fits]
