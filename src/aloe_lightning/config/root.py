"""The root keys of the config, and the sections that are not declared in another room: type, comment and default."""

# ruff: noqa: RUF009 (`key` makes a dataclass field)

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Interval

from aloe_lightning.signatures.types import (
    Epsilon,
    NonNegativeInt,
    PositiveFloat,
    PositiveFraction,
    PositiveInt,
    Text,
    key,
)

Node = Any
"""A group of keys, checked against the class that it builds."""


@dataclass(frozen=True, kw_only=True)
class Root:
    """All root keys."""

    data: Node = key("in-distribution data set.")
    outliers: Node = key("auxiliary outliers of the training.")
    ood: Node = key("OOD test sets by name; `+ood.NAME=/path/to/images` adds a folder or an `.npy` file.")
    net: Node = key("classifier; its number of classes and normalisation come from the data.")
    objective: Node = key("training objective.")
    attack: Node = key("attacks of the training and of the evaluation.")
    detector: Node = key("detectors by name.")
    optim: Node = key("optimiser and learning-rate schedule.")
    trainer: Node = key("arguments of Lightning's Trainer.")
    logger: Node = key("destination of curves and results.")
    launcher: Node = key("how the jobs of a sweep are run.")
    paths: Node = key("folders.")
    epsilon: Epsilon = key("adversarial budget in 1/255 pixel steps, of training and of evaluation.")
    train_epsilon: Epsilon = key("budget of the training attack.")
    eval_epsilon: Epsilon = key("budget of the evaluation attack.")
    seed: Annotated[int, Interval(ge=0, lt=2**31)] = key("random seed of initialisation, order of images and attacks.")
    batch: Node = key("images per step, of all processes together.")
    evaluation: Node = key("settings of the evaluation.")
    validation: Node = key("accuracy and AUROC of a few images during the training.")
    duplicates: Node = key("search for outliers that are also test images.")
    group: Text = key("group of the runs in W&B; a sweep names itself.")
    study: Text = key("folder of the runs that share a table.")
    protocol: str = key("fingerprint of the settings that must be equal within a table.")
    cell: Text = key("folder of the run; ends in the fingerprint of the settings that affect its results.")
    enabled: bool = key("run this combination of a sweep.")
    checkpoint: str | None = key("weights to evaluate instead of training: a file, or `zoo:NAME`.")
    checkpoint_seconds: PositiveFloat = key(
        "time between two saved states of a training; an interrupted one continues from the last."
    )
    recompute: Literal["nothing", "evaluation", "training"] = key("results to compute again even if they exist.")
    compile: Literal["auto", "off", "graphs", "default", "reduce-overhead", "max-autotune"] = key(
        "passes of the net on a GPU: graphs replays the kernels of a training from CUDA graphs, default and the others "
        "are modes of torch.compile; auto: graphs where they are possible, else default; off on a CPU."
    )
    tf32: bool = key("let a GPU multiply float32 numbers in 19 bits: faster, other results.")
    optimize: str | None = key(
        "metric that a job returns to a sweeper such as Optuna: `attacked_auroc`, `clean_fpr95/odin`, `accuracy`, ..."
    )
    debug: bool = key("show the traceback of an error.")


@dataclass(frozen=True, kw_only=True)
class Attack:
    """Both attacks."""

    name: Text = key("regime that the records state.")
    inner_batchnorm: Literal["eval", "train"] = key(
        "statistics of BatchNorm in the inner maximisation: running (eval) or the batch's (train)."
    )
    train: Node = key("inner maximisation of the training.")
    eval: Node = key("attack of the evaluation.")


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """Arguments of `pytorch_lightning.Trainer`."""

    accelerator: str = key("auto, cpu, gpu, ...", "auto")
    devices: int | str | list[int] = key("number of devices, or a list of them.", 1)
    num_nodes: PositiveInt = key("number of machines.", 1)
    strategy: str = key("auto, ddp, ...", "auto")
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed", "64-true"] = key(
        "arithmetic of the training; losses and scores are float32 in any case. auto: measure once, take the faster of "
        "32-true and bf16-mixed.",
        "32-true",
    )
    max_epochs: Annotated[int, Ge(-1)] = key("length of the training; -1: given by max_steps.", -1)
    max_steps: Annotated[int, Ge(-1)] = key("length of the training in steps; -1: given by max_epochs.", -1)
    gradient_clip_val: PositiveFloat | None = key("largest gradient norm.", None)
    accumulate_grad_batches: PositiveInt = key("batches per optimiser step.", 1)
    sync_batchnorm: bool = key(
        "normalise by the batch of all processes, as one process does, instead of each by its share.", False
    )
    deterministic: bool = key("refuse operations without a deterministic form.", False)
    benchmark: bool = key("let cuDNN choose the fastest algorithms; never with deterministic.", True)
    log_every_n_steps: PositiveInt = key("interval of the logged values in steps.", 25)
    limit_train_batches: PositiveInt | PositiveFraction | None = key(
        "number or share of the batches of an epoch.", None
    )
    fast_dev_run: bool | NonNegativeInt = key("run a single batch, or this number of batches, as a trial.", False)


@dataclass(frozen=True, kw_only=True)
class Logger:
    """Destination of curves and results."""

    kind: Literal["csv", "tensorboard", "wandb"] = key("CSV files, TensorBoard or Weights & Biases.")


@dataclass(frozen=True, kw_only=True)
class WandbLogger:
    """Weights & Biases."""

    kind: Literal["wandb"] = key("wandb.")
    mode: Literal["auto", "online", "offline"] = key(
        "auto: online where a key is configured and the service answers, else offline.", "auto"
    )
    project: Text = key("W&B project of the run.", "aloe_lightning")
    entity: str | None = key("user or team; null: the default of the account.", None)
    artifact: bool = key("store the weights with the run.", False)


@dataclass(frozen=True, kw_only=True)
class Launcher:
    """How the jobs of a sweep are run."""

    name: str = key("basic, joblib, ray or submitit.")


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Folders."""

    data: Text = key("folder of all named data sets.")
    outputs: Text = key("folder of all results.")
    verify: bool = key(
        "compare named data sets with the published MD5 sums and counts; false for a copy known to differ.", True
    )


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Search for outliers that are also test images."""

    perceptual_distance: Annotated[int, Interval(ge=0, le=3)] | None = key(
        "exclude outliers that look like a test image, too: bits of 64 that may differ, 0 to 3.", None
    )
