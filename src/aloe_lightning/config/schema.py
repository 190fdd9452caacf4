"""The whole config: every key, its type and its range."""

from typing import Annotated, Any, Literal

from pydantic import Field

from aloe_lightning.config.schema_data import DATA, OOD, OUTLIERS
from aloe_lightning.config.schema_nodes import Channels, Node, Positive, Target, either

Rounding = Literal["none", "nearest", "truncate"]
Epsilon = Annotated[float, Field(ge=0, le=255)]


class DenseNetNode(Target):  # noqa: D101
    name: str
    num_classes: Positive | None
    depth: Positive
    growth_rate: Positive
    reduction: Annotated[float, Field(gt=0, le=1)]
    mean: Channels | None
    std: Channels | None
    init: Literal["kaiming", "authors"]
    fused: bool | None


class SmallNetNode(Target):  # noqa: D101
    name: str
    num_classes: Positive | None
    width: Positive
    mean: Channels | None
    std: Channels | None


class ObjectiveNode(Target):  # noqa: D101
    name: str
    outlier_weight: Annotated[float, Field(ge=0)]
    joint_forward: bool
    channels_last: bool


class InnerNode(Target):  # noqa: D101
    epsilon: Epsilon
    step_size: Annotated[float, Field(gt=0)]
    steps: Annotated[int, Field(ge=0)] | None
    random_start: bool
    rounding: Rounding
    batchnorm: Literal["train", "eval"]


class ConfidenceAttackNode(Target):  # noqa: D101
    name: str
    epsilon: Epsilon
    step_size: Annotated[float, Field(gt=0)]
    steps: Annotated[int, Field(ge=0)]
    random_start: bool
    rounding: Rounding


class MSPNode(Target):  # noqa: D101
    name: str


class ODINNode(MSPNode):  # noqa: D101
    temperature: Annotated[float, Field(gt=0)] | None
    eta: Annotated[float, Field(ge=0)] | None
    noise: Positive


class EnergyNode(MSPNode):  # noqa: D101
    temperature: Annotated[float, Field(gt=0)]


class PytorchOODNode(MSPNode):  # noqa: D101
    detector: Annotated[str, Field(min_length=1)]
    options: dict[str, Any]
    attack: Literal["score", "softmax"]


class MahalanobisNode(MSPNode):  # noqa: D101
    eta: Annotated[float, Field(ge=0)] | None
    images: Positive
    arithmetic: Literal["float64", "float32"]


class OptimNode(Target):  # noqa: D101
    lr: Annotated[float, Field(gt=0)]
    min_lr: Annotated[float, Field(ge=0)]
    warmup: Annotated[float, Field(ge=0, lt=1)]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    nesterov: bool
    weight_decay: Annotated[float, Field(ge=0)]


NETS = {"nets__DenseNet": DenseNetNode, "nets__SmallNet": SmallNetNode}
OBJECTIVES = {f"objectives__{name}": ObjectiveNode for name in ("Original", "OE", "ADV", "AOE", "ALOE")}
DETECTORS = {
    "detectors__MSP": MSPNode,
    "detectors__ODIN": ODINNode,
    "detectors__Energy": EnergyNode,
    "detectors__MaxLogit": MSPNode,
    "detectors__Mahalanobis": MahalanobisNode,
    "detectors__PytorchOOD": PytorchOODNode,
}
TARGETS = {**DATA, **OUTLIERS, **OOD, **NETS, **OBJECTIVES, **DETECTORS} | {
    "objectives__InnerMaximisation": InnerNode,
    "attacks__ConfidenceAttack": ConfidenceAttackNode,
    "objectives__Optim": OptimNode,
}


class AttackNode(Node):  # noqa: D101
    train: either(objectives__InnerMaximisation=InnerNode)  # type: ignore[valid-type]
    eval: either(attacks__ConfidenceAttack=ConfidenceAttackNode)  # type: ignore[valid-type]


class BatchNode(Node):  # noqa: D101
    inliers: Positive
    outliers: Positive


class EvaluationNode(Node):  # noqa: D101
    batch_size: Positive | None
    max_id: Positive | None
    max_ood: Positive | None
    bf16: bool
    classifier: bool


class DuplicatesNode(Node):  # noqa: D101
    perceptual_distance: Annotated[int, Field(ge=0, le=3)] | None


class TrainerNode(Node):
    """Arguments of `pytorch_lightning.Trainer`."""

    accelerator: str
    devices: int | str | list[int]
    num_nodes: Positive
    strategy: str
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "64-true"]
    max_epochs: Annotated[int, Field(ge=-1)]
    max_steps: Annotated[int, Field(ge=-1)]
    gradient_clip_val: Annotated[float, Field(gt=0)] | None
    accumulate_grad_batches: Positive
    deterministic: bool
    benchmark: bool
    log_every_n_steps: Positive
    limit_train_batches: int | float | None
    fast_dev_run: bool | int


class LoggerNode(Node):  # noqa: D101
    kind: Literal["csv", "tensorboard"]


class WandbNode(Node):  # noqa: D101
    kind: Literal["wandb"]
    mode: Literal["auto", "online", "offline"]
    project: str
    entity: str | None
    artifact: bool


class LauncherNode(Node):  # noqa: D101
    name: str


class PathsNode(Node):  # noqa: D101
    data: str
    outputs: str


class Config(Node):
    """The whole config, as composed."""

    data: either(**DATA)  # type: ignore[valid-type]
    outliers: either(**OUTLIERS)  # type: ignore[valid-type]
    ood: Annotated[dict[str, either(**OOD)], Field(min_length=1)]  # type: ignore[valid-type]
    net: either(**NETS)  # type: ignore[valid-type]
    objective: either(**OBJECTIVES)  # type: ignore[valid-type]
    attack: AttackNode
    detector: Annotated[dict[str, either(**DETECTORS)], Field(min_length=1)]  # type: ignore[valid-type]
    optim: either(objectives__Optim=OptimNode)  # type: ignore[valid-type]
    trainer: TrainerNode
    logger: Annotated[LoggerNode | WandbNode, Field(discriminator="kind")]
    launcher: LauncherNode
    paths: PathsNode
    epsilon: Epsilon
    train_epsilon: Epsilon
    eval_epsilon: Epsilon
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    batch: BatchNode
    evaluation: EvaluationNode
    duplicates: DuplicatesNode
    group: Annotated[str, Field(min_length=1)]
    study: Annotated[str, Field(min_length=1)]
    protocol: str
    cell: Annotated[str, Field(min_length=1)]
    enabled: bool
    checkpoint: str | None
    checkpoint_seconds: Annotated[float, Field(gt=0)]
    recompute: Literal["nothing", "evaluation", "training"]
    compile: Literal["auto", "off", "default", "reduce-overhead", "max-autotune"]
    tf32: bool
    debug: bool
