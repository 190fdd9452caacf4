"""From a checked config to objects: Hydra instantiates each node, we say in words what went wrong."""

import logging
from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import nn

from aloe_lightning.attacks import ConfidenceAttack
from aloe_lightning.data import BatchSizes, CustomDataset, RobustOODData
from aloe_lightning.detectors import Detector
from aloe_lightning.errors import UserError
from aloe_lightning.evaluation.evaluate import EvaluationSettings
from aloe_lightning.objectives import Objective

log = logging.getLogger(__name__)
OWN_DATA = ("aloe_lightning.data.LabelledFolder", "aloe_lightning.data.LabelledArrays")


def build(node: Mapping[str, Any], where: str, *, named: bool = True, **arguments: Any) -> Any:
    """Instantiate a node of the config.

    Args:
        node: with `_target_`.
        where: its place in the config, for messages.
        named: pass the node's `name` on; False if it is only a label for records.
        **arguments: further arguments of the target.

    Raises:
        UserError: if the target does not exist or does not accept its arguments.
    """
    kept = {key: value for key, value in node.items() if named or key != "name"}
    try:
        # Partial first: passed through Hydra, an argument that is a dataclass would come out as a dictionary.
        return instantiate(kept, _partial_=True, _convert_="all")(**arguments)
    except UserError:
        raise
    except (InstantiationException, ValueError, TypeError) as error:
        raise UserError(f"config: cannot build {where}: {str(error).splitlines()[0]}") from error


def with_statistics(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with what one's own data say of themselves in the places that were left null.

    Raises:
        UserError: if the number of classes is another than the config says.
    """
    data, net = config["data"], config["net"]
    if data["_target_"] not in OWN_DATA:
        return dict(config)
    own: CustomDataset = build(data, "data")
    found = own.statistics()._asdict()
    if net.get("num_classes", found["num_classes"]) not in (None, found["num_classes"]):
        raise UserError(f"config: net.num_classes is {net['num_classes']}, but data.train has {found['num_classes']}")
    mean, std = (", ".join(f"{value:.3f}" for value in found[key]) for key in ("mean", "std"))
    log.info("%s: %d classes, mean (%s), std (%s)", data["name"], found["num_classes"], mean, std)
    filled = {key: value for key, value in found.items() if net.get(key, "") is None}
    return {**config, "data": {**data, **found}, "net": {**net, **filled}}


def build_net(config: Mapping[str, Any]) -> nn.Module:
    """The net."""
    net: nn.Module = build(config["net"], "net", named=False)
    return net


def build_objective(config: Mapping[str, Any], net: nn.Module) -> Objective:
    """The objective around a net."""
    parts = {"optim": build(config["optim"], "optim"), "attack": build(config["attack"]["train"], "attack.train")}
    objective: Objective = build(config["objective"], "objective", named=False, net=net, **parts)
    return objective


def build_data(config: Mapping[str, Any], uses_outliers: bool) -> RobustOODData:
    """The data module; nothing is read yet."""
    return RobustOODData(
        build(config["data"], "data"),
        build(config["outliers"], "outliers", named=False),
        {name: build(node, f"ood.{name}", named=False) for name, node in config["ood"].items()},
        batch=BatchSizes(**config["batch"]),
        seed=config["seed"],
        uses_outliers=uses_outliers,
        perceptual_distance=config["duplicates"]["perceptual_distance"],
    )


def build_detectors(config: Mapping[str, Any]) -> dict[str, Detector]:
    """The detectors by name."""
    return {name: build(node, f"detector.{name}") for name, node in config["detector"].items()}


def build_attack(config: Mapping[str, Any]) -> ConfidenceAttack:
    """The evaluation attack."""
    attack: ConfidenceAttack = build(config["attack"]["eval"], "attack.eval")
    return attack


def build_evaluation(config: Mapping[str, Any]) -> EvaluationSettings:
    """The settings of the evaluation."""
    return EvaluationSettings(**config["evaluation"])
