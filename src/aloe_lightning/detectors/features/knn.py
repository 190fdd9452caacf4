"""Distance to the k-th nearest training feature (Sun, Ming, Zhu and Li, arXiv:2204.06507)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from aloe_lightning.detectors.detector import CacheableDetector, FitData, Fitted, device_of
from aloe_lightning.detectors.features.scores import attacked_through_score, training_features
from aloe_lightning.errors import UserError
from aloe_lightning.nets import last_layer
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import PositiveInt


@checked
@dataclass(frozen=True, kw_only=True)
class KNN(CacheableDetector):
    """S(x) = -||z - z_(k)||, the distance to the k-th nearest of the training features: higher = more in-distribution.

    z is the last pooled feature vector divided by its Euclidean norm. The score is attacked itself.

    Attributes:
        k: rank of the neighbour; the paper uses 50 on CIFAR-10 with all training images.
        images: number of training images that are kept, drawn by the seed; null for all.
    """

    k: PositiveInt = 50
    images: PositiveInt | None = 10000

    requires_fit = True

    @property
    def title(self) -> str:
        """The detector's name in tables."""
        return "k-NN"

    def fit(self, net: nn.Module, data: FitData | None = None) -> Fitted:
        """Keep the normalised features of training images.

        Raises:
            UserError: if there are fewer than k training images, or the net has no last linear layer.
        """
        features, _ = training_features(net, data, "k-NN", self.images)
        if len(features) < self.k:
            raise UserError(f"k-NN has {len(features)} training images for k = {self.k}: set a smaller k")
        return self.from_state(net, {}, {"features": F.normalize(features, dim=1)})

    def from_state(self, net: nn.Module, settings: Mapping[str, float | str], tensors: Mapping[str, Tensor]) -> Fitted:
        """Rebuild the fitted detector from its training features."""
        known = tensors["features"].to(device_of(net))

        def score(images: Tensor) -> Tensor:
            z = F.normalize(last_layer(net, images).features.double(), dim=1)
            nearest = (z @ known.T).topk(self.k, dim=1).values[:, -1]  # of unit vectors: ||a - b||^2 = 2 - 2 a'b
            return -(2 - 2 * nearest).clamp(min=1e-12).sqrt()

        return attacked_through_score(net, score, {}, {"features": tensors["features"]})
