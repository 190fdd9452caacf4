"""Virtual-logit matching (ViM; Wang, Li, Feng and Zhang, arXiv:2203.10807)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aloe_lightning.detectors.detector import CacheableDetector, FitData, Fitted, device_of
from aloe_lightning.detectors.features.scores import attacked_through_score, training_features
from aloe_lightning.errors import UserError
from aloe_lightning.nets import last_layer
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import PositiveInt


@checked
@dataclass(frozen=True, kw_only=True)
class ViM(CacheableDetector):
    """S(x) = logsumexp(z) - alpha ||R'(h - o)||: higher = more in-distribution.

    h are the last pooled features and o = -(W')^+ b the point where the last layer's logits are zero; R spans the
    directions of least variance of the training features around o, and alpha makes the mean virtual logit equal to
    the mean largest logit. It is the log-odds of one minus the paper's probability of the virtual class, which ranks
    images alike. The score is attacked itself.

    Attributes:
        dimension: dimension of the principal space, whose complement R spans; null for the paper's: 1,000 of 2,048
            features or more, 512 of 768 or more, else half of them.
    """

    dimension: PositiveInt | None = None

    requires_fit = True

    def fit(self, net: nn.Module, data: FitData | None = None) -> Fitted:
        """Compute residual space and alpha from all training images.

        Raises:
            UserError: if there are no training images, the principal space leaves no residual, or the net has no last
                linear layer.
        """
        features, logits = training_features(net, data, "ViM")
        width = features.shape[1]
        dimension = self.dimension or (1000 if width >= 2048 else 512 if width >= 768 else width // 2)
        if dimension >= width:
            raise UserError(f"ViM: dimension {dimension} leaves no residual of {width} features: set a smaller one")
        if len(features) <= dimension:
            raise UserError(
                f"ViM: {len(features)} training images span at most as many of {width} directions: the principal "
                f"space of {dimension} leaves no residual: give more images, or set a dimension below {len(features)}"
            )
        assert data is not None
        probe = data.inliers().take(torch.arange(1)).to(device_of(net)).float().div_(255)
        with torch.no_grad():
            _, _, weight, bias = last_layer(net, probe)
        weight = weight.double().cpu()
        bias = torch.zeros(len(weight)).double() if bias is None else bias.double().cpu()
        origin = -torch.linalg.pinv(weight) @ bias
        centred = features - origin
        axes = torch.linalg.eigh(centred.T @ centred / len(centred)).eigenvectors  # in ascending order of variance
        residual = axes[:, : width - dimension]
        norms = (centred @ residual).norm(dim=1)
        alpha = float(logits.amax(1).mean() / norms.mean())
        return self.from_state(net, {"alpha": alpha}, {"origin": origin, "residual": residual})

    def from_state(self, net: nn.Module, settings: Mapping[str, float | str], tensors: Mapping[str, Tensor]) -> Fitted:
        """Rebuild the fitted detector from its residual space."""
        device, alpha = device_of(net), float(settings["alpha"])
        origin, residual = tensors["origin"].to(device), tensors["residual"].to(device)

        def log_odds(images: Tensor) -> Tensor:
            features, logits, _, _ = last_layer(net, images)
            virtual = alpha * ((features.double() - origin) @ residual).norm(dim=1)
            score: Tensor = logits.double().logsumexp(dim=1) - virtual
            return score

        return attacked_through_score(net, log_odds, settings, tensors)
