"""`ood_metrics` as a torchmetrics metric."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from aloe_lightning.metrics import ood_metrics


class OODMetrics(Metric):
    """Accumulates scores, gathers them across processes and computes `ood_metrics` once.

    Scores are stored in float32, the only floating type that torchmetrics gathers safely from an empty process.
    """

    full_state_update = False
    id_scores: list[Tensor]
    ood_scores: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("id_scores", default=[], dist_reduce_fx="cat")
        self.add_state("ood_scores", default=[], dist_reduce_fx="cat")

    def update(self, scores: Tensor, is_id: Tensor) -> None:
        """Add scores (N,); a boolean (N,) marks those of in-distribution images."""
        self.id_scores.append(scores[is_id].float())
        self.ood_scores.append(scores[~is_id].float())

    def compute(self) -> dict[str, Tensor]:
        """Return the five metrics of all scores since the last reset."""
        values = ood_metrics(dim_zero_cat(self.id_scores), dim_zero_cat(self.ood_scores))
        return {name: torch.tensor(value) for name, value in values.items()}
