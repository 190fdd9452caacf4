"""Mahalanobis distance of the last pooled features alone (Lee et al., arXiv:1807.03888), without outliers."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aloe_lightning.attacks import frozen_eval
from aloe_lightning.detectors.detector import CacheableDetector, FitData, Fitted, device_of
from aloe_lightning.detectors.features.scores import attacked_through_score
from aloe_lightning.detectors.gaussians import Gaussians, fit_gaussians
from aloe_lightning.errors import UserError
from aloe_lightning.nets import Classifier, last_layer
from aloe_lightning.signatures.checked import checked


@checked
@dataclass(frozen=True, kw_only=True)
class MahalanobisLast(CacheableDetector):
    """S(x) = max_c -1/2 (h - mu_c)' P (h - mu_c) of the last features h: higher = more in-distribution.

    With one layer the logistic regression of `Mahalanobis` would not change the order of the scores, so that no
    outliers are required. The score is attacked itself, without input preprocessing.
    """

    requires_fit = True

    @property
    def title(self) -> str:
        """The detector's name in tables."""
        return "Mahalanobis (last layer)"

    def fit(self, net: nn.Module, data: FitData | None = None) -> Fitted:
        """Fit the Gaussians of all training images.

        Raises:
            UserError: if there are no training images with labels of every class, or the net has no features.
        """
        if data is None:
            raise UserError("Mahalanobis requires training images: give train=")
        if data.inliers().labels is None:
            raise UserError("Mahalanobis requires training images with labels")
        batches = data.training_batches(net, "fitting Gaussians")
        try:
            with frozen_eval(net), torch.no_grad():
                features = (([_last_features(net, images)], labels) for images, labels in batches)
                (gaussian,) = fit_gaussians(features, data.num_classes)
        except UserError:
            raise
        except ValueError as error:
            raise UserError(f"Mahalanobis requires training images of every class: {error}") from error
        return self.from_state(
            net, {"ridge": gaussian.ridge}, {"mean": gaussian.means, "precision": gaussian.precision}
        )

    def from_state(self, net: nn.Module, settings: Mapping[str, float | str], tensors: Mapping[str, Tensor]) -> Fitted:
        """Rebuild the fitted detector from its Gaussians."""
        gaussian = Gaussians(tensors["mean"], tensors["precision"]).to(device_of(net))

        def score(images: Tensor) -> Tensor:
            return gaussian.score(_last_features(net, images))

        return attacked_through_score(net, score, settings, tensors)


def _last_features(net: nn.Module, images: Tensor) -> Tensor:
    return net.features(images)[-1] if isinstance(net, Classifier) else last_layer(net, images).features
