"""Mahalanobis distances to class-conditional Gaussians of several layers (Lee et al., arXiv:1807.03888)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from aloe_lightning.attacks import AttackLoss, Membership, frozen_eval, gradient_signs
from aloe_lightning.detectors.detector import FitData, Fitted, in_batches
from aloe_lightning.detectors.forward_pass import ForwardPass
from aloe_lightning.detectors.gaussians import Arithmetic, Gaussians, fit_gaussians
from aloe_lightning.detectors.odin import ETAS
from aloe_lightning.errors import UserError
from aloe_lightning.metrics import fpr_at_tpr
from aloe_lightning.runtime.progress import track


@dataclass(frozen=True)
class LayerScores:
    """The scores of every layer, M_l(x) (eq. 8), of a net whose layers have Gaussians.

    Attributes:
        net: with `features`: images -> pooled features of L layers, each (N, C_l).
        gaussians: one for each layer.
    """

    net: nn.Module
    gaussians: list[Gaussians]

    def clean(self, images: Tensor) -> Tensor:
        """Without input preprocessing: images -> float64 (N, L), differentiable; higher = more in-distribution."""
        return torch.stack(self._each(images), dim=1)

    def of_layer(self, images: Tensor, k: int) -> Tensor:
        """The k-th column of `clean` alone: (N,)."""
        return self.gaussians[k].score(self.net.features(images)[k])  # type: ignore[operator]

    def directions(self, images: Tensor) -> Tensor:
        """Sign of the gradient of each layer's own score: (L, N, 3, H, W) of -1, 0 and 1.

        In the authors' arithmetic the mean over the batch is differentiated, as they do: where a precision is nearly
        singular, float32 turns signs by rounding, and even that factor turns some.
        """
        count = len(images) if self.gaussians[0].means.dtype == torch.float32 else 1
        with frozen_eval(self.net):
            return torch.stack(gradient_signs(images, lambda x: [scores / count for scores in self._each(x)]))

    def _each(self, images: Tensor) -> list[Tensor]:
        features = self.net.features(images)  # type: ignore[operator]
        return [gaussian.score(f) for gaussian, f in zip(self.gaussians, features, strict=True)]

    def stepped(self, images: Tensor, directions: Tensor, eta: float) -> Tensor:
        """After each layer's step of eta towards its nearest class (eq. 9): images -> float64 (N, L)."""
        if eta == 0:
            return self.clean(images)
        return torch.stack([self.of_layer(images + eta * d, k) for k, d in enumerate(directions)], dim=1)


@dataclass(frozen=True, kw_only=True)
class Mahalanobis:
    """S(x) = sum over layers of alpha_l M_l(x~) + b, the log-odds of P(in-distribution).

    alpha and b come from a logistic regression (scikit-learn's, regularised by cross-validation) of training images
    against outliers; the Gaussians from all training images.

    Attributes:
        eta: size of the input step in [0, 1] pixels; None: chosen among 21 values from 0 to 0.004 by the FPR at 95 %
            TPR on the images of the regression.
        images: training images, and outliers, for the regression.
        arithmetic: of Gaussians and distances, see `gaussians.Arithmetic`.
        name: as records state it.
    """

    eta: float | None = None
    images: int = 1000
    arithmetic: Arithmetic = "float64"
    name: str = "mahalanobis"
    learns: ClassVar[bool] = True

    def fit(self, net: nn.Module, data: FitData | None = None) -> Fitted:
        """Images -> log-odds of being in-distribution; attacked by Algorithm 2."""
        if data is None:
            raise ValueError("Mahalanobis learns from training images and outliers")
        layers = self.layers(net, data)
        inside = data.sample(data.inliers, self.images, "mahalanobis inliers")
        outside = data.sample(data.outliers, self.images, "mahalanobis outliers")
        count = min(len(inside), len(outside))
        eta, weights, bias = self._regress(layers, inside[:count], outside[:count], data.batch_size)
        ridges = {f"ridge_{k}": g.ridge for k, g in enumerate(layers.gaussians) if g.ridge}
        return bound(layers, weights, bias, eta, {"eta": eta, **ridges})

    def restored(self, net: nn.Module, settings: Mapping[str, float | str], tensors: Mapping[str, Tensor]) -> Fitted:
        """The fit again, from what it has left."""
        device = next(net.parameters()).device
        moved = {name: tensor.to(device) for name, tensor in tensors.items()}
        count = sum(name.startswith("mean_") for name in moved)
        gaussians = [Gaussians(moved[f"mean_{k}"], moved[f"precision_{k}"]) for k in range(count)]
        return bound(LayerScores(net, gaussians), moved["weights"], float(moved["bias"]), float(moved["eta"]), settings)

    def layers(self, net: nn.Module, data: FitData) -> LayerScores:
        """The Gaussians of all training images."""

        def features() -> Iterator[tuple[list[Tensor], Tensor]]:
            labels = data.inliers.labels
            assert labels is not None
            device = next(net.parameters()).device
            with torch.no_grad():
                for part in torch.split(torch.arange(len(data.inliers)), data.batch_size):
                    batch = data.inliers.take(part).to(device).float().div_(255)
                    yield net.features(batch), labels[part]  # type: ignore[operator]

        shown = track(features(), len(data.inliers), "fitting Gaussians", step=data.batch_size)
        try:
            gaussians = fit_gaussians(shown, data.num_classes, self.arithmetic)
        except ValueError as error:
            raise UserError(f"Mahalanobis wants training images of every class: {error}") from error
        device = next(net.parameters()).device
        return LayerScores(net, [g.to(device) for g in gaussians])

    def _regress(
        self, layers: LayerScores, inside: Tensor, outside: Tensor, batch_size: int
    ) -> tuple[float, Tensor, float]:
        """The step with the least FPR, and the regression's weights (L,) and bias at it."""
        etas = ETAS if self.eta is None else (self.eta,)
        scores: dict[float, list[Tensor]] = {eta: [] for eta in etas}
        images = torch.cat([inside, outside])
        batches = in_batches(images, batch_size, layers.net)
        for batch in track(batches, len(images), "scoring layers", step=batch_size):
            directions = layers.directions(batch) if any(etas) else torch.empty(0)
            with torch.no_grad():
                for eta in etas:
                    scores[eta].append(layers.stepped(batch, directions, eta).cpu())
        target = np.repeat([1, 0], [len(inside), len(outside)])
        best: tuple[float, float, Tensor, float] | None = None
        for eta in etas:
            table = torch.cat(scores[eta]).numpy()
            weights, bias = regression(table, target)
            log_odds = table @ weights + bias
            fpr = fpr_at_tpr(log_odds[target == 1], log_odds[target == 0])
            if best is None or fpr < best[0]:
                best = fpr, eta, torch.from_numpy(weights), bias
        assert best is not None
        return best[1:]


def regression(scores: NDArray[np.float64], target: NDArray[np.int64]) -> tuple[NDArray[np.float64], float]:
    """Logistic regression with an L2 penalty chosen by the likelihood in five-fold cross-validation.

    Args:
        scores: of the layers, (N, L).
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
    found = search.fit(scaler.transform(scores), target).best_estimator_
    weights: NDArray[np.float64] = (found.coef_[0] / scaler.scale_).astype(np.float64)
    return weights, float(found.intercept_[0] - weights @ scaler.mean_)


def algorithm_2(layers: LayerScores, weights: Tensor, bias: float) -> AttackLoss:
    """Algorithm 2's loss, without input preprocessing: -log p for in-distribution images, -log(1 - p) for OOD images.

    p is P(in-distribution), the logistic function of the log-odds. Here -log p is softplus of their negative, whose
    gradient fades where the attack has won, but in float64 never to zero before that.
    """

    def loss(images: Tensor, membership: Membership) -> Tensor:
        log_odds = layers.clean(images) @ weights + bias
        return F.softplus(-log_odds if membership == "id" else log_odds)

    return loss


def bound(layers: LayerScores, weights: Tensor, bias: float, eta: float, settings: Mapping[str, float | str]) -> Fitted:
    """A fitted detector from its parts: weights (L,) and bias of the log-odds of P(in-distribution)."""
    weights = weights.to(layers.gaussians[0].means.device)

    def score(batch: ForwardPass) -> Tensor:
        images = batch.images
        return layers.stepped(images, layers.directions(images) if eta else torch.empty(0), eta) @ weights + bias

    tensors = {"weights": weights, "bias": _exact(bias), "eta": _exact(eta)}
    for k, gaussian in enumerate(layers.gaussians):
        tensors |= {f"mean_{k}": gaussian.means, f"precision_{k}": gaussian.precision}
    loss = algorithm_2(layers, weights, bias)
    return Fitted(net=layers.net, score=score, loss=loss, crafted="mahalanobis", settings=settings, tensors=tensors)


def _exact(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)
