"""The data parts of the config: in-distribution sets, outliers, OOD test sets."""

from typing import Annotated, Literal

from pydantic import Field

from aloe_lightning.config.schema_nodes import Channels, Positive, Target


class NamedSetNode(Target):
    """A set of the catalogue, under the data root."""

    root: str
    verify: bool


class CIFARNode(NamedSetNode):  # noqa: D101
    name: str
    num_classes: Literal[10, 100]
    mean: Channels
    std: Channels
    augment: bool
    augment_outliers: bool


class GTSRBNode(NamedSetNode):  # noqa: D101
    name: str
    num_classes: Literal[43]
    mean: Channels
    std: Channels
    augment: Literal["offline", "online", "none"]
    augment_outliers: bool
    per_class: Positive
    seed: Annotated[int, Field(ge=0)]
    validation: Annotated[float, Field(ge=0, lt=1)]
    evaluate: Literal["test", "validation"]
    max_test: Positive | None


class OwnNode(Target):
    """Data of one's own: classes, mean and standard deviation are found where they are null."""

    name: str
    train: str
    test: str
    num_classes: Positive | None
    mean: Channels | None
    std: Channels | None
    augment: bool
    augment_outliers: bool
    root: str
    verify: bool


class DemoNode(Target):  # noqa: D101
    name: str
    num_classes: Literal[10]
    mean: Channels
    std: Channels
    num_train: Positive
    num_test: Positive
    augment: bool
    augment_outliers: bool


class DemoOutliersNode(Target):  # noqa: D101
    name: str
    count: Positive


class DemoOODNode(Target):  # noqa: D101
    kind: str
    count: Positive


class ImageFolderNode(Target):  # noqa: D101
    name: str | None = None
    path: str
    count: Positive | None = None


class NpyNode(Target):  # noqa: D101
    name: str | None = None
    path: str


class NamedOutliersNode(NamedSetNode):  # noqa: D101
    name: str


class CIFAROODNode(NamedSetNode):  # noqa: D101
    num_classes: Literal[10, 100]


DATA: dict[str, type[Target]] = {
    "data__CIFAR": CIFARNode,
    "data__GTSRB": GTSRBNode,
    "data__LabelledFolder": OwnNode,
    "data__LabelledArrays": OwnNode,
    "data__Demo": DemoNode,
}
OUTLIERS: dict[str, type[Target]] = {
    "data__RandomImages300K": NamedOutliersNode,
    "data__TinyImages": NamedOutliersNode,
    "data__ImageNet32": NamedOutliersNode,
    "data__NpyImages": NpyNode,
    "data__ImageFolder": ImageFolderNode,
    "data__DemoOutliers": DemoOutliersNode,
}
OOD: dict[str, type[Target]] = {
    **{f"data__{name}": NamedSetNode for name in ("SVHN", "Textures", "Places365", "LSUNCrop", "LSUNResize", "ISUN")},
    "data__CIFAROOD": CIFAROODNode,
    "data__ImageFolder": ImageFolderNode,
    "data__NpyImages": NpyNode,
    "data__DemoOOD": DemoOODNode,
}
