"""The root keys of the config, and the sections that are not declared in another room."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Interval

from aloe_lightning.signatures.types import Epsilon, PositiveFloat, PositiveInt, Text

Node = Any
"""A group of keys, checked against the class that it builds."""


@dataclass(frozen=True, kw_only=True)
class Root:
    """All root keys.

    Attributes:
        data: in-distribution data set.
        outliers: auxiliary outliers of the training.
        ood: OOD test sets by name; `+ood.NAME=/path/to/images` adds a folder or an `.npy` file.
        net: classifier; its number of classes and normalisation come from the data.
        objective: training objective.
        attack: attacks of the training and of the evaluation.
        detector: detectors by name.
        optim: optimiser and learning-rate schedule.
        trainer: arguments of Lightning's Trainer.
        logger: destination of curves and results.
        launcher: how the jobs of a sweep are run.
        paths: folders.
        epsilon: adversarial budget in 1/255 pixel steps, of training and of evaluation.
        train_epsilon: budget of the training attack.
        eval_epsilon: budget of the evaluation attack.
        seed: random seed of initialisation, order of images and attacks.
        batch: images per step, of all processes together.
        evaluation: settings of the evaluation.
        duplicates: search for outliers that are also test images.
        group: group of the runs in W&B; a sweep names itself.
        study: folder of the runs that share a table.
        protocol: fingerprint of the settings that must be equal within a table.
        cell: folder of the run; ends in the fingerprint of the settings that affect its results.
        enabled: run this combination of a sweep.
        checkpoint: weights to evaluate instead of training.
        checkpoint_seconds: time between two saved states of a training; an interrupted one continues from the last.
        recompute: results to compute again even if they exist.
        compile: torch.compile of the net; auto: on a GPU only.
        tf32: let a GPU multiply float32 numbers in 19 bits: faster, other results.
        debug: show the traceback of an error.
    """

    data: Node
    outliers: Node
    ood: Node
    net: Node
    objective: Node
    attack: Node
    detector: Node
    optim: Node
    trainer: Node
    logger: Node
    launcher: Node
    paths: Node
    epsilon: Epsilon
    train_epsilon: Epsilon
    eval_epsilon: Epsilon
    seed: Annotated[int, Interval(ge=0, lt=2**31)]
    batch: Node
    evaluation: Node
    duplicates: Node
    group: Text
    study: Text
    protocol: str
    cell: Text
    enabled: bool
    checkpoint: str | None
    checkpoint_seconds: PositiveFloat
    recompute: Literal["nothing", "evaluation", "training"]
    compile: Literal["auto", "off", "default", "reduce-overhead", "max-autotune"]
    tf32: bool
    debug: bool


@dataclass(frozen=True, kw_only=True)
class Attack:
    """Both attacks.

    Attributes:
        name: regime that the records state.
        inner_batchnorm: statistics of BatchNorm in the inner maximisation: running (eval) or the batch's (train).
        train: inner maximisation of the training.
        eval: attack of the evaluation.
    """

    name: Text
    inner_batchnorm: Literal["eval", "train"]
    train: Node
    eval: Node


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """Arguments of `pytorch_lightning.Trainer`.

    Attributes:
        accelerator: auto, cpu, gpu, ...
        devices: number of devices, or a list of them.
        num_nodes: number of machines.
        strategy: auto, ddp, ...
        precision: arithmetic of the training; losses and scores are float32 in any case.
        max_epochs: length of the training; -1: given by max_steps.
        max_steps: length of the training in steps; -1: given by max_epochs.
        gradient_clip_val: largest gradient norm.
        accumulate_grad_batches: batches per optimiser step.
        sync_batchnorm: normalise by the batch of all processes, as one process does, instead of each by its share.
        deterministic: refuse operations without a deterministic form.
        benchmark: let cuDNN choose the fastest algorithms.
        log_every_n_steps: interval of the logged values in steps.
        limit_train_batches: number or share of the batches of an epoch.
        fast_dev_run: run a single batch, or this number of batches, as a trial.
    """

    accelerator: str = "auto"
    devices: int | str | list[int] = 1
    num_nodes: PositiveInt = 1
    strategy: str = "auto"
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "64-true"] = "32-true"
    max_epochs: Annotated[int, Ge(-1)] = -1
    max_steps: Annotated[int, Ge(-1)] = -1
    gradient_clip_val: PositiveFloat | None = None
    accumulate_grad_batches: PositiveInt = 1
    sync_batchnorm: bool = False
    deterministic: bool = False
    benchmark: bool = True
    log_every_n_steps: PositiveInt = 25
    limit_train_batches: int | float | None = None
    fast_dev_run: bool | int = False


@dataclass(frozen=True, kw_only=True)
class Logger:
    """Destination of curves and results.

    Attributes:
        kind: CSV files, TensorBoard or Weights & Biases.
    """

    kind: Literal["csv", "tensorboard", "wandb"]


@dataclass(frozen=True, kw_only=True)
class WandbLogger:
    """Weights & Biases.

    Attributes:
        kind: wandb.
        mode: auto: online where a key is configured and the service answers, else offline.
        project: W&B project of the run.
        entity: user or team; null: the default of the account.
        artifact: store the weights with the run.
    """

    kind: Literal["wandb"]
    mode: Literal["auto", "online", "offline"] = "auto"
    project: Text = "aloe_lightning"
    entity: str | None = None
    artifact: bool = False


@dataclass(frozen=True, kw_only=True)
class Launcher:
    """How the jobs of a sweep are run.

    Attributes:
        name: basic, joblib, ray or submitit.
    """

    name: str


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Folders.

    Attributes:
        data: folder of all named data sets.
        outputs: folder of all results.
        verify: compare named data sets with the published MD5 sums and counts; false for a copy known to differ.
    """

    data: Text
    outputs: Text
    verify: bool = True


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Search for outliers that are also test images.

    Attributes:
        perceptual_distance: exclude outliers that look like a test image, too: bits of 64 that may differ, 0 to 3.
    """

    perceptual_distance: Annotated[int, Interval(ge=0, le=3)] | None = None
