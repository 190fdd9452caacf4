"""ATOM: adversarial training with outlier mining (Chen et al., arXiv:2006.15207)."""

from typing import ClassVar, final

import torch
from torch import Tensor

from aloe_lightning.data import Batch
from aloe_lightning.losses import cross_entropy, rejection_loss
from aloe_lightning.objectives.ntom import NTOM


@final
class ATOM(NTOM):
    """min E_(x,y) [-log F(x)_y] + lambda E_o max_delta [-log F(o + delta)_(K+1)], o among the informative outliers.

    It is NTOM with perturbed outliers: as in the authors' code, half of the outliers of a batch are perturbed and the
    others clean.
    """

    perturbs_outliers: ClassVar[bool] = True

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the cross-entropy of K + 1 classes on inliers, and on outliers of which half are perturbed."""
        half = len(batch.outliers) // 2
        (perturbed,) = self.worst_case((batch.outliers[half:], rejection_loss), generator=batch.generator("attack"))
        z, *parts = self.logits(batch.inliers, batch.outliers[:half], perturbed)
        z_out = torch.cat(parts)
        loss = cross_entropy(z, batch.labels).mean() + self.outlier_weight * rejection_loss(z_out).mean()
        self.log_step(loss, batch, z, z_out)
        return loss
