"""Rectified activations (ReAct; Sun, Guo and Li, arXiv:2111.12797)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch.nn.functional as F
from annotated_types import Gt, Lt
from torch import Tensor, nn

from aloe_lightning.detectors.detector import CacheableDetector, FitData, Fitted
from aloe_lightning.detectors.features.scores import attacked_through_score, training_features
from aloe_lightning.nets import last_layer
from aloe_lightning.signatures.checked import checked


@checked
@dataclass(frozen=True, kw_only=True)
class ReAct(CacheableDetector):
    """S(x) = logsumexp(W min(h, c) + b): the energy of features cut at c, higher = more in-distribution.

    h are the last pooled features. The score is attacked itself.

    Attributes:
        percentile: c is this percentile of all activations of the training images.
    """

    percentile: Annotated[float, Gt(0), Lt(100)] = 90.0

    requires_fit = True

    def fit(self, net: nn.Module, data: FitData | None = None) -> Fitted:
        """Compute the threshold c.

        Raises:
            UserError: if there are no training images, or the net has no last linear layer.
        """
        features, _ = training_features(net, data, "ReAct")
        return self.from_state(net, {"threshold": float(np.percentile(features.numpy(), self.percentile))}, {})

    def from_state(self, net: nn.Module, settings: Mapping[str, float | str], tensors: Mapping[str, Tensor]) -> Fitted:
        """Rebuild the fitted detector from its threshold."""
        threshold = float(settings["threshold"])

        def score(images: Tensor) -> Tensor:
            features, _, weight, bias = last_layer(net, images)
            bias = None if bias is None else bias.double()
            return F.linear(features.double().clamp(max=threshold), weight.double(), bias).logsumexp(dim=1)

        return attacked_through_score(net, score, settings, tensors)
