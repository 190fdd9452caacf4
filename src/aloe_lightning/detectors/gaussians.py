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
    """Gaussians of K classes with a shared covariance."""

    means: Tensor  # (K, C)
    precision: Tensor  # inverse of the covariance (C, C), of the means' type
    ridge: float = 0.0  # added to the covariance's diagonal if it was singular

    def score(self, features: Tensor) -> Tensor:
        """Return M(x) = max_c -1/2 (f - mu_c)' P (f - mu_c): (N, C) -> float64 (N,), higher = nearer to a class."""
        with torch.autocast(features.device.type, enabled=False):
            difference = features.to(self.means.dtype).unsqueeze(1) - self.means
            squared_distances = ((difference @ self.precision) * difference).sum(2).double()
        return -0.5 * squared_distances.amin(1)

    def to(self, device: torch.device) -> "Gaussians":
        """Return the Gaussians on another device."""
        return Gaussians(self.means.to(device), self.precision.to(device), self.ridge)


class GaussianFit:
    """Class means and shared covariance in one pass over the data, accumulated in float64.

    Sums are taken around a point near the features, `shift` (C,): sums of squares of large values would cancel.
    """

    def __init__(self, num_classes: int, shift: Tensor) -> None:
        self._shift = shift
        self._counts = torch.zeros(num_classes, dtype=torch.float64)
        self._sums = torch.zeros(num_classes, len(shift), dtype=torch.float64)
        self._products = torch.zeros(len(shift), len(shift), dtype=torch.float64)

    def add(self, values: Tensor, classes: Tensor) -> None:
        """Accumulate a batch: features (n, C) in float64, labels int64 (n,)."""
        values = values - self._shift
        self._counts += torch.bincount(classes, minlength=len(self._counts))
        self._sums.index_add_(0, classes, values)
        self._products += values.T @ values

    def result(self) -> Gaussians:
        """Return the Gaussians of all batches; ValueError if a class has no sample."""
        if not self._counts.all():
            raise ValueError(f"no samples of the classes {torch.nonzero(self._counts == 0).ravel().tolist()}")
        means = self._sums / self._counts.unsqueeze(1)
        # Sum over samples of (x - mu_class)(x - mu_class)' = sum of xx' less n_c mu_c mu_c' over classes.
        covariance = (self._products - (means * self._counts.unsqueeze(1)).T @ means) / self._counts.sum()
        precision, ridge = inverse((covariance + covariance.T) / 2)
        return Gaussians(means + self._shift, precision, ridge)


def authors_gaussians(features: Tensor, labels: Tensor, num_classes: int) -> Gaussians:
    """Fit the Gaussians of all features (N, C) at once in the authors' arithmetic: centred twice, in float32."""
    means = torch.stack([features[labels == label].mean(0) for label in range(num_classes)])
    centred = torch.cat([features[labels == label] - means[label] for label in range(num_classes)])
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
    """Fit the Gaussians of several layers to batches of their features, each (n, C_l), and labels (n,)."""
    if arithmetic == "float32":
        stored = [(*(layer.detach().float().cpu() for layer in features), labels.cpu()) for features, labels in batches]
        *layers, all_labels = (torch.cat(parts) for parts in zip(*stored, strict=True))
        return [authors_gaussians(layer, all_labels, num_classes) for layer in layers]
    fits: list[GaussianFit] = []
    for features, labels in batches:
        exact = [layer.detach().double().cpu() for layer in features]
        fits = fits or [GaussianFit(num_classes, layer.mean(0)) for layer in exact]
        for fit, layer in zip(fits, exact, strict=True):
            fit.add(layer, labels.cpu())
    return [fit.result() for fit in fits]
