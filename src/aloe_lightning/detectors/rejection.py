"""The detector of nets with a rejection class, which NTOM and ATOM train."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from aloe_lightning.attacks import LossFn, Membership
from aloe_lightning.detectors.detector import Detector, FitData, Fitted
from aloe_lightning.detectors.forward_pass import ForwardPass
from aloe_lightning.errors import UserError
from aloe_lightning.nets import RejectionNet
from aloe_lightning.signatures.checked import checked


@checked
@dataclass(frozen=True, kw_only=True)
class Rejection(Detector):
    """Log-odds against the rejection class (Chen et al., arXiv:2006.15207): S(x) = log((1 - p) / p), p = F(x)_(K+1).

    It orders images as their score -p does, without saturating. It is attacked through itself, as there; Algorithm 1
    does not see the rejection class.
    """

    requires_rejection_class: ClassVar[bool] = True

    def fit(self, net: nn.Module, data: FitData | None = None) -> Fitted:
        """Return the fitted detector, nothing is fitted; UserError if the net has no rejection class."""
        if not isinstance(net, RejectionNet):
            raise UserError("the detector Rejection requires a net with a rejection class: objective=ntom or atom")

        def log_odds_of_images(images: Tensor) -> Tensor:
            outputs = net.outputs(images).double()
            return outputs[:, :-1].logsumexp(dim=1) - outputs[:, -1]

        def score(batch: ForwardPass) -> Tensor:
            return log_odds_of_images(batch.images)

        def loss(membership: Membership) -> LossFn:
            return lambda images: (1 if membership == "ood" else -1) * log_odds_of_images(images)

        return Fitted(net=net, score=score, loss=loss)
