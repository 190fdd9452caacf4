"""The base class of training objectives: the net, the optimiser, the inner maximisation and the logged values."""

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from aloe_lightning.attacks import PGD, Attack, BatchNormMode, frozen_eval
from aloe_lightning.data import Batch, OutlierMining, RobustOODData
from aloe_lightning.errors import UserError
from aloe_lightning.losses import cross_entropy, uniform_cross_entropy
from aloe_lightning.nets import RejectionNet
from aloe_lightning.objectives.optim import Optim
from aloe_lightning.runtime.seeding import seed_of
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import NonNegativeFloat
from aloe_lightning.storage.divergence import stop_diverged

LogitsLoss = Callable[[Tensor], Tensor]
"""Logits (N, K) -> (N,)."""


def negative_log_likelihood(labels: Tensor) -> LogitsLoss:
    """Return the loss of logits (N, K) for labels (N,): -log F(x)_y."""
    return partial(cross_entropy, labels=labels)


@checked
class Objective(LightningModule):
    """A training objective over batches of inliers and outliers; each subclass states its equation.

    What an objective uses is stated by its class attributes alone. With a `rejection_class` the net has K + 1 outputs,
    the last for outliers. `outlier_loss` is the loss of outliers that is logged. `mining`, if it is set, chooses the
    outliers of each epoch.

    Args:
        net: images (N, 3, H, W) in [0, 1] -> logits (N, K), normalisation inside.
        optim: optimiser and schedule.
        attack: the inner maximisation, for objectives that perturb images.
        inner_batchnorm: statistics that BatchNorm normalises by in the inner maximisation, the running ones (eval) or
            those of the batch (train, as in the paper's code). Neither updates the running statistics.
        outlier_weight: lambda, for objectives with outliers.
        joint_forward: inliers and outliers share one forward pass; false gives each its own pass, hence its own
            BatchNorm statistics, as in the paper's code.
        channels_last: memory layout of the net; faster, and equal up to rounding. Not used for a net with a convolution
            of fewer than 8 output channels, whose backward pass kills the process on a CPU (oneDNN of torch 2.14).
    """

    uses_outliers: ClassVar[bool] = True
    perturbs_inliers: ClassVar[bool] = True
    perturbs_outliers: ClassVar[bool] = True
    rejection_class: ClassVar[bool] = False
    outlier_loss = staticmethod(uniform_cross_entropy)
    mining: OutlierMining | None = None

    def __init__(
        self,
        net: nn.Module,
        *,
        optim: Optim | None = None,
        attack: Attack | None = None,
        inner_batchnorm: BatchNormMode = "eval",
        outlier_weight: NonNegativeFloat = 0.5,
        joint_forward: bool = True,
        channels_last: bool = True,
    ) -> None:
        super().__init__()
        usable = channels_last and not has_narrow_convolution(net)
        self.net = net.to(memory_format=torch.channels_last) if usable else net
        self.optim = optim or Optim()
        self.attack = attack or PGD()
        self.inner_batchnorm = inner_batchnorm
        self.outlier_weight = outlier_weight
        self.joint_forward = joint_forward
        self._batch_weight = 1.0

    @abstractmethod
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the objective's value on one batch."""

    def worst_case(self, *parts: tuple[Tensor, LogitsLoss], generator: torch.Generator) -> list[Tensor]:
        """Perturb the images of each (images, loss of their logits) so that they maximise the loss.

        With `joint_forward` all parts share the forward and backward pass of each step.
        """

        def maximise(images: Tensor, loss: LogitsLoss) -> Tensor:
            return self.attack(images, lambda x: loss(self.net(x)), generator=generator)

        with frozen_eval(self.net, self.inner_batchnorm):
            if not self.joint_forward:
                return [maximise(images, loss) for images, loss in parts]
            sizes = [len(images) for images, _ in parts]

            def joint_loss(logits: Tensor) -> Tensor:
                split = zip(parts, torch.split(logits, sizes), strict=True)
                return torch.cat([loss(part_logits) for (_, loss), part_logits in split])

            return list(torch.split(maximise(torch.cat([images for images, _ in parts]), joint_loss), sizes))

    def logits(self, *parts: Tensor) -> list[Tensor]:
        """Return the logits of each part, from one joint forward pass or from one pass each."""
        if not self.joint_forward:
            return [self.net(images) for images in parts]
        return list(torch.split(self.net(torch.cat(parts)), [len(images) for images in parts]))

    def classifier(self, num_classes: int) -> nn.Module:
        """Return the net as a classifier of K classes, for the evaluation."""
        return RejectionNet(self.net, num_classes) if self.rejection_class else self.net

    def on_fit_start(self) -> None:
        """Let the data module choose outliers by mining, if this objective does."""
        if self.mining is not None:
            data = getattr(self.trainer, "datamodule", None)
            if not isinstance(data, RobustOODData) or not data.uses_outliers:
                raise UserError(f"{type(self).__name__} chooses among the outliers of a RobustOODData: give outliers=")
            self.mining.connect(data, self.net)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout and other randomness of the net by the batch, so that a resumed training draws the same."""
        torch.manual_seed(seed_of(batch.seed, "net"))
        self._batch_weight = batch.weight

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Weigh the loss, so that the mean gradient of all processes is that of their images in one batch."""
        super().backward(loss if self._batch_weight == 1 else loss * self._batch_weight, *args, **kwargs)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the outliers that were chosen for the current epoch."""
        if self.mining is not None:
            checkpoint["mining"] = self.mining.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the outliers that were chosen for the current epoch."""
        if self.mining is not None:
            self.mining.load_state(checkpoint["mining"])

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return SGD and its per-step schedule over the whole training."""
        sgd, schedule = self.optim.build(self.net, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": sgd, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @torch.no_grad()
    def log_step(self, loss: Tensor, batch: Batch, z: Tensor, z_out: Tensor | None = None) -> None:
        """Log the loss and its parts at the trainer's logging steps, given the logits of inliers and outliers.

        These are under the BatchNorm statistics of the batch. If the objective perturbs inliers, the clean ones are
        logged, too, from an extra forward pass in eval mode. If the loss is not finite, the
        training stops: see `stop_diverged`.
        """
        if (self.global_step + 1) % self.trainer.log_every_n_steps != 0:  # type: ignore[attr-defined]
            return
        loss = loss.detach()
        if not torch.isfinite(loss):
            stop_diverged(self.net, loss, batch._asdict(), self.global_step, Path(self.trainer.default_root_dir))
        values = {"train/loss": loss, "train/lr": torch.tensor(self.optimizers().param_groups[0]["lr"])}  # type: ignore[union-attr]
        kind = "adversarial" if self.perturbs_inliers else "clean"
        values |= self._inlier_values(z, batch.labels, kind)
        if self.perturbs_inliers:
            with frozen_eval(self.net):
                values |= self._inlier_values(self.net(batch.inliers), batch.labels, "clean")
        if z_out is not None:
            kind = "adversarial" if self.perturbs_outliers else "clean"
            values[f"train/outlier_loss_{kind}"] = self.outlier_loss(z_out).mean()
            values[f"train/outlier_confidence_{kind}"] = self._confidence(z_out)
        self.log_dict({name: value.to(self.device) for name, value in values.items()}, batch_size=len(batch.labels))

    def _inlier_values(self, logits: Tensor, labels: Tensor, kind: str) -> dict[str, Tensor]:
        predicted = logits[:, : logits.shape[1] - self.rejection_class].argmax(1)
        return {
            f"train/inlier_loss_{kind}": cross_entropy(logits, labels).mean(),
            f"train/inlier_accuracy_{kind}": (predicted == labels).float().mean(),
            f"train/inlier_confidence_{kind}": self._confidence(logits),
        }

    def _confidence(self, logits: Tensor) -> Tensor:
        """Return the mean probability of the most probable class, the rejection class apart."""
        return logits.float().softmax(1)[:, : logits.shape[1] - self.rejection_class].amax(1).mean()


def has_narrow_convolution(net: nn.Module) -> bool:
    """Return whether a 2-D convolution of a net has fewer than 8 output channels."""
    return any(isinstance(module, nn.Conv2d) and module.out_channels < 8 for module in net.modules())
