"""Mahalanobis distances to class-conditional Gaussians of several layers (Lee et al., arXiv:1807.03888)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from aloe_lightning.attacks import LossFn, Membership, frozen_eval, gradient_signs
from aloe_lightning.detectors.detector import CacheableDetector, FitData, Fitted, device_batches, device_of
from aloe_lightning.detectors.forward_pass import ForwardPass
from aloe_lightning.detectors.gaussians import Arithmetic, Gaussians, fit_gaussians
from aloe_lightning.detectors.odin import ETAS
from aloe_lightning.errors import UserError
from aloe_lightning.metrics import fpr_at_tpr
from aloe_lightning.runtime.progress import track
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import NonNegativeFloat, PositiveInt


@dataclass(frozen=True)
class LayerScores:
    """The scores M_l(x) (eq. 8) of the layers of a net."""

    net: nn.Module  # its method `features` returns pooled features of L layers, each (N, C_l)
    gaussians: list[Gaussians]  # of each layer

    def clean(self, images: Tensor) -> Tensor:
        """Score images without input preprocessing: float64 (N, L), differentiable; higher = more in-distribution."""
        return torch.stack(self._layers(images), dim=1)

    def stepped(self, images: Tensor, directions: Tensor, eta: float) -> Tensor:
        """Score images after each layer's step of eta towards its nearest class (eq. 9): float64 (N, L)."""
        if eta == 0:
            return self.clean(images)
        return torch.stack([self.of_layer(images + eta * d, k) for k, d in enumerate(directions)], dim=1)

    def directions(self, images: Tensor) -> Tensor:
        """Return the sign of the gradient of each layer's score: (L, N, 3, H, W) of -1, 0 and 1.

        In the authors' arithmetic the mean over the batch is differentiated, as in their code: if a precision is nearly
        singular, rounding in float32 changes signs, and even this factor changes some.
        """
        count = len(images) if self.gaussians[0].means.dtype == torch.float32 else 1
        with frozen_eval(self.net):
            return torch.stack(gradient_signs(images, lambda x: [scores / count for scores in self._layers(x)]))

    def of_layer(self, images: Tensor, k: int) -> Tensor:
        """Return the k-th column of `clean`."""
        return self.gaussians[k].score(self.net.features(images)[k])  # type: ignore[operator]

    def _layers(self, images: Tensor) -> list[Tensor]:
        features = self.net.features(images)  # type: ignore[operator]
        return [gaussian.score(f) for gaussian, f in zip(self.gaussians, features, strict=True)]


@checked
@dataclass(frozen=True, kw_only=True)
class Mahalanobis(CacheableDetector):
    """S(x) = sum over layers of alpha_l M_l(x~) + b, the log-odds of P(in-distribution).

    alpha and b come from a logistic regression (scikit-learn's, regularised by cross-validation) of training images
    against outliers; the Gaussians from all training images.

    Attributes:
        eta: size of the input step in [0, 1] pixels; null chooses among 21 values from 0 to 0.004 by the FPR at 95 %
            TPR on the images of the regression.
        images: number of training images, and of outliers, for the regression.
        arithmetic: type of Gaussians and distances, float64, or float32 as in the paper's code (decision 009).
    """

    eta: NonNegativeFloat | None = None
    images: PositiveInt = 1000
    arithmetic: Arithmetic = "float64"
    requires_fit = True
    requires_outliers = True

    def fit(self, net: nn.Module, data: FitData | None = None) -> Fitted:
        """Return the log-odds of being in-distribution, attacked by Algorithm 2; UserError if a class has no image."""
        if data is None:
            raise ValueError("Mahalanobis requires training images and outliers")
        batches = data.training_batches(net, "fitting Gaussians")
        try:
            with torch.no_grad():
                features = ((net.features(images), labels) for images, labels in batches)  # type: ignore[operator]
                gaussians = fit_gaussians(features, data.num_classes, self.arithmetic)
        except ValueError as error:
            raise UserError(f"Mahalanobis requires training images of every class: {error}") from error
        layers = LayerScores(net, [gaussian.to(device_of(net)) for gaussian in gaussians])
        inliers = data.sample(data.inliers(), self.images, "mahalanobis inliers")
        outliers = data.sample(data.outliers(), self.images, "mahalanobis outliers")
        count = min(len(inliers), len(outliers))
        eta, weights, bias = self._regress(layers, torch.cat([inliers[:count], outliers[:count]]), data.batch_size)
        ridges = {f"ridge_{k}": gaussian.ridge for k, gaussian in enumerate(gaussians) if gaussian.ridge}
        numbers = {"bias": bias, "eta": eta}
        tensors = {"weights": weights, **{name: torch.tensor(v, dtype=torch.float64) for name, v in numbers.items()}}
        for k, gaussian in enumerate(gaussians):
            tensors |= {f"mean_{k}": gaussian.means, f"precision_{k}": gaussian.precision}
        return self.from_state(net, {"eta": eta, **ridges}, tensors)

    def from_state(self, net: nn.Module, settings: Mapping[str, float | str], tensors: Mapping[str, Tensor]) -> Fitted:
        """Bind the detector with its Gaussians, and weights (L,) and bias of the log-odds of P(in-distribution)."""
        bias, eta = float(tensors["bias"]), float(tensors["eta"])  # before a device would be waited for
        tensors = {name: tensor.to(device_of(net)) for name, tensor in tensors.items()}
        count = sum(name.startswith("mean_") for name in tensors)
        layers = LayerScores(net, [Gaussians(tensors[f"mean_{k}"], tensors[f"precision_{k}"]) for k in range(count)])
        weights = tensors["weights"]

        def score(batch: ForwardPass) -> Tensor:
            directions = layers.directions(batch.images) if eta else torch.empty(0)
            return layers.stepped(batch.images, directions, eta) @ weights + bias

        def before_step(batch: ForwardPass) -> Tensor:
            return layers.clean(batch.images) @ weights + bias

        loss, approximation = partial(algorithm_2, layers, weights, bias), before_step if eta else None
        return Fitted(net=net, score=score, loss=loss, approximation=approximation, settings=settings, tensors=tensors)

    def _regress(self, layers: LayerScores, images: Tensor, batch_size: int) -> tuple[float, Tensor, float]:
        """Return the step with the least FPR, weights and bias for images, half in-distribution and then half OOD."""
        etas = ETAS if self.eta is None else (self.eta,)
        scores: dict[float, list[Tensor]] = {eta: [] for eta in etas}
        batches = device_batches(images, batch_size, layers.net)
        for batch in track(batches, len(images), "scoring layers", step=batch_size):
            directions = layers.directions(batch) if any(etas) else torch.empty(0)
            with torch.no_grad():
                for eta in etas:
                    scores[eta].append(layers.stepped(batch, directions, eta).cpu())
        target = np.repeat([1, 0], len(images) // 2)
        results = []
        for eta in etas:
            layer_scores = torch.cat(scores[eta]).numpy()
            weights, bias = regression(layer_scores, target)
            log_odds = layer_scores @ weights + bias
            fpr = fpr_at_tpr(log_odds[target == 1], log_odds[target == 0])
            results.append((fpr, eta, torch.from_numpy(weights), bias))
        return min(results, key=lambda result: result[0])[1:]  # of equals, the first


def regression(scores: NDArray[np.float64], target: NDArray[np.int64]) -> tuple[NDArray[np.float64], float]:
    """Return weights (L,) and bias of the log-odds of target 1, given layer scores (N, L) and targets 0 and 1 (N,).

    The L2 penalty of the logistic regression is chosen by the likelihood in five-fold cross-validation.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(scores)
    penalties = {"C": np.logspace(-4, 4, 10)}
    search = GridSearchCV(LogisticRegression(max_iter=1000), penalties, scoring="neg_log_loss", cv=5)
    model = search.fit(scaler.transform(scores), target).best_estimator_
    weights: NDArray[np.float64] = (model.coef_[0] / scaler.scale_).astype(np.float64)
    return weights, float(model.intercept_[0] - weights @ scaler.mean_)


def algorithm_2(layers: LayerScores, weights: Tensor, bias: float, membership: Membership) -> LossFn:
    """Return the loss that Algorithm 2 maximises: -log p for in-distribution images, -log(1 - p) for OOD images.

    p is P(in-distribution), the logistic function of the log-odds without input preprocessing. -log p is softplus of
    the negative log-odds; in float64 its gradient does not vanish before the attack has succeeded.
    """
    sign = -1 if membership == "id" else 1
    return lambda images: F.softplus(sign * (layers.clean(images) @ weights + bias))
