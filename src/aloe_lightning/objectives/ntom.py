"""NTOM: natural training with outlier mining (Chen et al., arXiv:2006.15207)."""

from typing import Annotated, ClassVar

from annotated_types import Interval
from torch import Tensor, nn

from aloe_lightning.attacks import Attack, BatchNormMode
from aloe_lightning.data import Batch, OutlierMining
from aloe_lightning.losses import cross_entropy, rejection_loss
from aloe_lightning.objectives.objective import Objective
from aloe_lightning.objectives.optim import Optim
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import NonNegativeFloat


@checked
class NTOM(Objective):
    """min E_(x,y) [-log F(x)_y] + lambda E_o [-log F(o)_(K+1)], o among the informative outliers of the epoch.

    F has K + 1 classes, as in the authors' code, the last for outliers; the detector `Rejection` reads it. Before each
    epoch the outliers are chosen by `OutlierMining`.

    Args:
        quantile: q, share of the candidates with the least F(o)_(K+1) that is passed over before the chosen ones; the
            paper has 0 for SVHN, 0.125 for CIFAR-10 and 0.5 for CIFAR-100.
    """

    uses_outliers: ClassVar[bool] = True
    perturbs_inliers: ClassVar[bool] = False
    perturbs_outliers: ClassVar[bool] = False
    rejection_class: ClassVar[bool] = True
    outlier_loss = staticmethod(rejection_loss)

    def __init__(
        self,
        net: nn.Module,
        *,
        optim: Optim | None = None,
        attack: Attack | None = None,
        inner_batchnorm: BatchNormMode = "eval",
        quantile: Annotated[float, Interval(ge=0, le=0.75)] = 0.125,
        outlier_weight: NonNegativeFloat = 1.0,
        joint_forward: bool = True,
        channels_last: bool = True,
    ) -> None:
        super().__init__(
            net,
            optim=optim,
            attack=attack,
            inner_batchnorm=inner_batchnorm,
            outlier_weight=outlier_weight,
            joint_forward=joint_forward,
            channels_last=channels_last,
        )
        self.mining = OutlierMining(lambda outputs: -rejection_loss(outputs), quantile)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the cross-entropy of K + 1 classes on clean inliers and on clean chosen outliers."""
        z, z_out = self.logits(batch.inliers, batch.outliers)
        loss = cross_entropy(z, batch.labels).mean() + self.outlier_weight * rejection_loss(z_out).mean()
        self.log_step(loss, batch, z, z_out)
        return loss
