"""Mahalanobis distances to class-conditional Gaussians of several layers (Lee et al., arXiv:1807.03888)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from aloe_lightning.attacks import LossFn, Membership, frozen_eval, gradient_signs
from aloe_lightning.detectors.detector import CacheableDetector, FitData, Fitted, device_batches
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
    """The scores M_l(x) (eq. 8) of the layers of a net.

    Attributes:
        net: net whose method `features` returns pooled features of L layers, each (N, C_l).
        gaussians: class-conditional Gaussians of each layer.
    """

    net: nn.Module
    gaussians: list[Gaussians]

    def clean(self, images: Tensor) -> Tensor:
        """Score images without input preprocessing: float64 (N, L), differentiable; higher = more in-distribution."""
        return torch.stack(self._layers(images), dim=1)

    def of_layer(self, images: Tensor, k: int) -> Tensor:
        """Return the k-th column of `clean`: (N,)."""
        return self.gaussians[k].score(self.net.features(images)[k])  # type: ignore[operator]

    def directions(self, images: Tensor) -> Tensor:
        """Return the sign of the gradient of each layer's score: (L, N, 3, H, W) of -1, 0 and 1.

        In the authors' arithmetic the mean over the batch is differentiated, as in their code: if a precision is nearly
        singular, rounding in float32 changes signs, and even this factor changes some.
        """
        count = len(images) if self.gaussians[0].means.dtype == torch.float32 else 1
        with frozen_eval(self.net):
            return torch.stack(gradient_signs(images, lambda x: [scores / count for scores in self._layers(x)]))

    def _layers(self, images: Tensor) -> list[Tensor]:
        features = self.net.features(images)  # type: ignore[operator]
        return [gaussian.score(f) for gaussian, f in zip(self.gaussians, features, strict=True)]

    def stepped(self, images: Tensor, directions: Tensor, eta: float) -> Tensor:
        """Score images after each layer's step of eta towards its nearest class (eq. 9): float64 (N, L)."""
        if eta == 0:
            return self.clean(images)
        return torch.stack([self.of_layer(images + eta * d, k) for k, d in enumerate(directions)], dim=1)


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

    @property
    def requires_fit(self) -> bool:
        """Always true."""
        return True

    @property
    def requires_outliers(self) -> bool:
        """Always true: the regression needs them."""
        return True

    def fit(self, net: nn.Module, data: FitData | None = None) -> Fitted:
        """Return the log-odds of being in-distribution; attacked by Algorithm 2."""
        if data is None:
            raise ValueError("Mahalanobis requires training images and outliers")
        layers = self.layers(net, data)
        inliers = data.sample(data.inliers(), self.images, "mahalanobis inliers")
        outliers = data.sample(data.outliers(), self.images, "mahalanobis outliers")
        count = min(len(inliers), len(outliers))
        eta, weights, bias = self._regress(layers, inliers[:count], outliers[:count], data.batch_size)
        ridges = {f"ridge_{k}": g.ridge for k, g in enumerate(layers.gaussians) if g.ridge}
        return bind(layers, weights, bias, eta, {"eta": eta, **ridges})

    def from_state(self, net: nn.Module, settings: Mapping[str, float | str], tensors: Mapping[str, Tensor]) -> Fitted:
        """Rebuild the fitted detector from its saved state."""
        device = next(net.parameters()).device
        moved = {name: tensor.to(device) for name, tensor in tensors.items()}
        count = sum(name.startswith("mean_") for name in moved)
        gaussians = [Gaussians(moved[f"mean_{k}"], moved[f"precision_{k}"]) for k in range(count)]
        return bind(LayerScores(net, gaussians), moved["weights"], float(moved["bias"]), float(moved["eta"]), settings)

    def layers(self, net: nn.Module, data: FitData) -> LayerScores:
        """Fit the Gaussians of all training images.

        Raises:
            UserError: if a class has no training image.
        """
        images = data.inliers()
        labels = images.labels
        assert labels is not None
        device = next(net.parameters()).device

        def features() -> Iterator[tuple[list[Tensor], Tensor]]:
            with torch.no_grad():
                for part in torch.split(torch.arange(len(images)), data.batch_size):
                    batch = images.take(part).to(device).float().div_(255)
                    yield net.features(batch), labels[part]  # type: ignore[operator]

        tracked = track(features(), len(images), "fitting Gaussians", step=data.batch_size)
        try:
            gaussians = fit_gaussians(tracked, data.num_classes, self.arithmetic)
        except ValueError as error:
            raise UserError(f"Mahalanobis requires training images of every class: {error}") from error
        return LayerScores(net, [g.to(device) for g in gaussians])

    def _regress(
        self, layers: LayerScores, inliers: Tensor, outliers: Tensor, batch_size: int
    ) -> tuple[float, Tensor, float]:
        """Return the step with the least FPR, and weights (L,) and bias of the regression at this step."""
        etas = ETAS if self.eta is None else (self.eta,)
        scores: dict[float, list[Tensor]] = {eta: [] for eta in etas}
        images = torch.cat([inliers, outliers])
        batches = device_batches(images, batch_size, layers.net)
        for batch in track(batches, len(images), "scoring layers", step=batch_size):
            directions = layers.directions(batch) if any(etas) else torch.empty(0)
            with torch.no_grad():
                for eta in etas:
                    scores[eta].append(layers.stepped(batch, directions, eta).cpu())
        target = np.repeat([1, 0], [len(inliers), len(outliers)])
        best: tuple[float, float, Tensor, float] | None = None
        for eta in etas:
            layer_scores = torch.cat(scores[eta]).numpy()
            weights, bias = regression(layer_scores, target)
            log_odds = layer_scores @ weights + bias
            fpr = fpr_at_tpr(log_odds[target == 1], log_odds[target == 0])
            if best is None or fpr < best[0]:
                best = fpr, eta, torch.from_numpy(weights), bias
        assert best is not None
        return best[1:]


def regression(scores: NDArray[np.float64], target: NDArray[np.int64]) -> tuple[NDArray[np.float64], float]:
    """Fit a logistic regression with an L2 penalty chosen by the likelihood in five-fold cross-validation.

    Args:
        scores: layer scores (N, L).
        target: 1 for in-distribution, 0 for OOD, (N,).

    Returns:
        Weights (L,) and bias of the log-odds of 1.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(scores)
    search = GridSearchCV(
        LogisticRegression(max_iter=1000), {"C": np.logspace(-4, 4, 10)}, scoring="neg_log_loss", cv=5
    )
    model = search.fit(scaler.transform(scores), target).best_estimator_
    weights: NDArray[np.float64] = (model.coef_[0] / scaler.scale_).astype(np.float64)
    return weights, float(model.intercept_[0] - weights @ scaler.mean_)


def algorithm_2(layers: LayerScores, weights: Tensor, bias: float, membership: Membership) -> LossFn:
    """Return the loss that Algorithm 2 maximises: -log p for in-distribution images, -log(1 - p) for OOD images.

    p is P(in-distribution), the logistic function of the log-odds without input preprocessing. -log p is softplus of
    the negative log-odds; in float64 its gradient does not vanish before the attack has succeeded.
    """
    sign = -1 if membership == "id" else 1

    def loss(images: Tensor) -> Tensor:
        return F.softplus(sign * (layers.clean(images) @ weights + bias))

    return loss


def bind(layers: LayerScores, weights: Tensor, bias: float, eta: float, settings: Mapping[str, float | str]) -> Fitted:
    """Return the fitted detector for weights (L,) and bias of the log-odds of P(in-distribution)."""
    weights = weights.to(layers.gaussians[0].means.device)

    def score(batch: ForwardPass) -> Tensor:
        images = batch.images
        return layers.stepped(images, layers.directions(images) if eta else torch.empty(0), eta) @ weights + bias

    tensors = {"weights": weights, "bias": _exact(bias), "eta": _exact(eta)}
    for k, gaussian in enumerate(layers.gaussians):
        tensors |= {f"mean_{k}": gaussian.means, f"precision_{k}": gaussian.precision}
    return Fitted(
        net=layers.net,
        score=score,
        loss=lambda membership: algorithm_2(layers, weights, bias, membership),
        approximation=(lambda batch: layers.clean(batch.images) @ weights + bias) if eta else None,
        settings=settings,
        tensors=tensors,
    )


def _exact(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)
