"""Validation during a training: accuracy and AUROC, clean and attacked, of a few images; no effect on the weights."""

import copy
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn

from aloe_lightning.attacks import PGD
from aloe_lightning.data import ImageSet, RobustOODData
from aloe_lightning.detectors import MSP, Rejection
from aloe_lightning.errors import UserError
from aloe_lightning.evaluation.evaluate import EvaluationSettings, evaluate
from aloe_lightning.metrics import auroc
from aloe_lightning.objectives import Objective
from aloe_lightning.runtime.distributed import rank_and_world_size, share_state
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import NonNegativeInt, PositiveInt

log = logging.getLogger(__name__)


@checked
@dataclass(frozen=True, kw_only=True)
class ValidationSettings:
    """Settings of the validation during a training. They affect neither the weights nor any stored result.

    Attributes:
        every_n_epochs: interval; 0 for no validation. It logs val/accuracy, val/auroc_clean and val/auroc_attacked.
        images: number of in-distribution and of OOD images, drawn by a fixed seed.
    """

    every_n_epochs: NonNegativeInt = 0
    images: PositiveInt = 64


class Validation(Callback):
    """Logs accuracy and AUROC of MSP, clean and with both sides attacked, at the end of every n-th epoch.

    The attack is Algorithm 1 of the paper with few steps: `PGD(epsilon)` with floor(epsilon) + 1 steps of 1/255. A net
    with a rejection class is scored by `Rejection`, attacked through itself. In-distribution images are those that the
    data set holds out of training (GTSRB), else test images; OOD images are of the first OOD test set. The training
    does not depend on the values, but a choice of settings by those of test images would be a choice on the test set.

    Args:
        settings: interval and number of images.
        data: data module of the training.
        epsilon: budget of the attack, in 1/255 pixel steps.
        evaluation: settings of the evaluation, for its batch size and precision.
        seed: random seed of the attack's start.
    """

    def __init__(
        self,
        settings: ValidationSettings,
        data: RobustOODData,
        epsilon: float,
        evaluation: EvaluationSettings,
        seed: int = 0,
    ) -> None:
        self.every_n_epochs = settings.every_n_epochs
        self.split, images = validation_images(data)
        self.id_images = images.subset(settings.images)
        name, ood_images = next(iter(data.ood_sets(settings.images).items()))
        self.ood_images: Mapping[str, ImageSet] = {name: ood_images}
        self.num_classes, self.attack, self.seed = data.inliers.num_classes, PGD(epsilon=epsilon), seed
        self.evaluation = replace(evaluation, classifier=False, examples=0)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the net and log the values, if it is time to."""
        if (trainer.current_epoch + 1) % self.every_n_epochs:
            return
        assert isinstance(pl_module, Objective)
        try:
            values = self.values(pl_module)
        except UserError as error:  # scores that are not finite: the training itself decides when to stop
            log.warning("no validation after epoch %d: %s", trainer.current_epoch + 1, error)
            return
        pl_module.log_dict(values)
        if trainer.is_global_zero:
            ((name, images),) = self.ood_images.items()
            shown = {key.removeprefix("val/"): f"{100 * value:.1f} %" for key, value in values.items()}
            log.info(
                "epoch %d: accuracy %s of %d %s images; AUROC %s clean, %s attacked, against %d images of %s",
                *(trainer.current_epoch + 1, shown["accuracy"], len(self.id_images), self.split),
                *(shown["auroc_clean"], shown["auroc_attacked"], len(images), name),
            )

    def values(self, objective: Objective) -> dict[str, float]:
        """Return `val/accuracy`, `val/auroc_clean` and `val/auroc_attacked` in [0, 1], equal on all processes.

        Raises:
            UserError: if a score is not finite.
        """
        detectors = {"val": Rejection() if objective.rejection_class else MSP()}
        with untouched(objective.classifier(self.num_classes)) as net:
            sets = self.id_images, self.ood_images
            result = evaluate(net, detectors, *sets, self.attack, self.evaluation, seed=self.seed, label=None)
        assert result.accuracy is not None
        return {
            "val/accuracy": result.accuracy,
            **{
                f"val/auroc_{condition}": auroc(
                    result.scores["val", "id", condition], result.scores.pooled_ood("val", condition)
                )
                for condition in ("clean", "attacked")
            },
        }


def validation_images(data: RobustOODData) -> tuple[str, ImageSet]:
    """Return in-distribution images that are not trained on, and their split: `validation` if there is one."""
    held_out = data.inliers.excluded_from_training().get("validation")
    return ("validation", held_out) if held_out else (data.inliers.split, data.test_set())


@contextmanager
def untouched(net: nn.Module) -> Iterator[nn.Module]:
    """Give a net to an evaluation amid a training, and compile nothing for it.

    A new batch size would make torch.compile replace the kernels of the training by others. Of several processes each
    has running statistics of its own: they get a copy with those of the first one.
    """
    if rank_and_world_size()[1] > 1:
        net = copy.deepcopy(net)
        share_state(net)
    with torch.compiler.set_stance("force_eager"):
        yield net
