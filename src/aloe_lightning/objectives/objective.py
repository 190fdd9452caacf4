"""What the five training objectives share: the net, the optimiser, the inner maximisation and what is logged."""

from abc import abstractmethod
from functools import partial
from typing import ClassVar

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from aloe_lightning.attacks import frozen_eval
from aloe_lightning.data import Batch
from aloe_lightning.errors import UserError
from aloe_lightning.losses import cross_entropy, uniform_cross_entropy
from aloe_lightning.objectives.inner import InnerMaximisation, LogitsLoss
from aloe_lightning.objectives.optim import Optim


def negative_log_likelihood(labels: Tensor) -> LogitsLoss:
    """The loss of logits (N, K) -> (N,) that labels (N,) define: -log F(x)_y."""
    return partial(cross_entropy, labels=labels)


class Objective(LightningModule):
    """A training objective over batches of inliers and outliers; each subclass is final and states its equation.

    Args:
        net: images (N, 3, H, W) in [0, 1] -> logits (N, K), normalisation inside.
        optim: optimiser and schedule.
        attack: the inner maximisation; only ADV, AOE and ALOE call it.
        outlier_weight: lambda; only OE, AOE and ALOE use it.
        joint_forward: put inliers and outliers through the net in one batch; False gives each a forward pass, hence
            BatchNorm statistics, of its own, as the paper's code does.
        channels_last: memory layout of the net; faster, the same numbers up to rounding.
    """

    uses_outliers: ClassVar[bool]
    perturbs_inliers: ClassVar[bool]
    perturbs_outliers: ClassVar[bool]

    def __init__(
        self,
        net: nn.Module,
        *,
        optim: Optim | None = None,
        attack: InnerMaximisation | None = None,
        outlier_weight: float = 0.5,
        joint_forward: bool = True,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        self.net = net.to(memory_format=torch.channels_last) if channels_last else net
        self.optim = optim or Optim()
        self.attack = attack or InnerMaximisation()
        self.outlier_weight = outlier_weight
        self.joint_forward = joint_forward

    @abstractmethod
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The objective's equation on one batch."""

    def worst_case(self, *parts: tuple[Tensor, LogitsLoss], generator: torch.Generator) -> list[Tensor]:
        """For each (images, loss of their logits): the images perturbed to maximise the loss.

        With joint passes all parts share each step's forward and backward pass.
        """
        if not self.joint_forward:
            return [self.attack(self.net, images, loss, generator) for images, loss in parts]
        sizes = [len(images) for images, _ in parts]

        def loss_of_all(logits: Tensor) -> Tensor:
            return torch.cat([loss(z) for (_, loss), z in zip(parts, torch.split(logits, sizes), strict=True)])

        worst = self.attack(self.net, torch.cat([images for images, _ in parts]), loss_of_all, generator)
        return list(torch.split(worst, sizes))

    def logits(self, *parts: Tensor) -> list[Tensor]:
        """Logits of each part, from one joint pass or from one pass each."""
        if not self.joint_forward:
            return [self.net(images) for images in parts]
        return list(torch.split(self.net(torch.cat(parts)), [len(images) for images in parts]))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """SGD and its per-step schedule over the whole of the training."""
        sgd, schedule = self.optim.build(self.net, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": sgd, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def logged(self, loss: Tensor, batch: Batch, inlier_logits: Tensor, outlier_logits: Tensor | None = None) -> Tensor:
        """Return the loss, having logged it and its parts at the trainer's logging steps.

        What the step itself computed is logged as it was, under the statistics of the batch; the clean inliers of an
        objective that perturbs them get a pass of their own in eval mode.
        """
        if (self.global_step + 1) % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self._log_parts(loss.detach(), batch, inlier_logits.detach(), outlier_logits)
        return loss

    @torch.no_grad()
    def _log_parts(self, loss: Tensor, batch: Batch, z: Tensor, z_out: Tensor | None) -> None:
        if not torch.isfinite(loss):
            raise UserError(f"training diverged: the loss is {loss.item()} at step {self.global_step}; lower optim.lr")
        values = {"train/loss": loss, "train/lr": torch.tensor(self.optimizers().param_groups[0]["lr"])}  # type: ignore[union-attr]
        kind = "adversarial" if self.perturbs_inliers else "clean"
        values |= _inlier_values(z, batch.labels, kind)
        if self.perturbs_inliers:  # a look at the clean inliers, at logging steps only
            with frozen_eval(self.net):
                values |= _inlier_values(self.net(batch.inliers), batch.labels, "clean")
        if z_out is not None:
            kind = "adversarial" if self.perturbs_outliers else "clean"
            values[f"train/outlier_loss_{kind}"] = uniform_cross_entropy(z_out).mean()
            values[f"train/outlier_confidence_{kind}"] = z_out.float().softmax(1).amax(1).mean()
        self.log_dict({name: value.to(self.device) for name, value in values.items()}, batch_size=len(batch.labels))


def _inlier_values(logits: Tensor, labels: Tensor, kind: str) -> dict[str, Tensor]:
    return {
        f"train/inlier_loss_{kind}": cross_entropy(logits, labels).mean(),
        f"train/inlier_accuracy_{kind}": (logits.argmax(1) == labels).float().mean(),
        f"train/inlier_confidence_{kind}": logits.float().softmax(1).amax(1).mean(),
    }
