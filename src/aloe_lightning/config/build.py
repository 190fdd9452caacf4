"""Build the objects of a validated config."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import nn

from aloe_lightning.attacks import Attack
from aloe_lightning.config.layout import SUPPLIED
from aloe_lightning.data import BatchSizes, InDistribution, RobustOODData
from aloe_lightning.detectors import Detector
from aloe_lightning.errors import UserError
from aloe_lightning.evaluation.evaluate import EvaluationSettings
from aloe_lightning.objectives import Objective
from aloe_lightning.signatures.description import describe
from aloe_lightning.signatures.source import PACKAGE
from aloe_lightning.storage.zoo import zoo_card, zoo_name
from aloe_lightning.training.validation import Validation, ValidationSettings


def build(node: Mapping[str, Any], place: str, **supplied: Any) -> Any:
    """Build the object of a node: class path under `_target_`, and arguments.

    Its `name` is a label for records, unless the class takes one. `place` is its path in the config, for messages.
    `supplied` are further arguments, used for parameters that the class has and the node does not give. UserError if
    the class does not exist or does not accept its arguments.
    """
    try:
        parameters = describe(str(node["_target_"])).parameters
        given = {key: value for key, value in node.items() if key != "name" or key in parameters}
        missing = {key: value for key, value in supplied.items() if key in parameters and key not in given}
        # Partial first: Hydra would convert an argument that is a dataclass into a dictionary.
        return instantiate(given, _partial_=True, _convert_="all")(**missing)
    except UserError:
        raise
    except (InstantiationException, LookupError, ValueError, TypeError) as error:
        raise UserError(f"config: cannot build {place}: {str(error).splitlines()[0]}") from error


def build_data(config: Mapping[str, Any], uses_outliers: bool) -> RobustOODData:
    """Return the data module; no file is read yet."""
    where = {"root": config["paths"]["data"], "verify": config["paths"]["verify"]}
    size = config["data"].get("size")

    def build_set(node: Mapping[str, Any], place: str) -> Any:
        ours = size is not None and str(node["_target_"]).startswith(PACKAGE)  # elsewhere `size` may mean another thing
        return build(node, place, **where, **({"size": size} if ours else {}))

    return RobustOODData(
        build_set(config["data"], "data"),
        build_set(config["outliers"], "outliers"),
        {name: build_set(node, f"ood.{name}") for name, node in config["ood"].items()},
        name=config["data"]["name"],
        batch=BatchSizes(**config["batch"]),
        seed=config["seed"],
        uses_outliers=uses_outliers,
        perceptual_distance=config["duplicates"]["perceptual_distance"],
    )


def build_net(config: Mapping[str, Any], data: InDistribution) -> nn.Module:
    """Return the net for the classes and the normalisation of the data; UserError if the data do not state them.

    It has one output more if the objective has a rejection class. For a net of the zoo the card states what the data do
    not; UserError if they state something else.
    """
    parameters = describe(config["net"]["_target_"]).parameters
    # A net with its own normalisation has no mean and std by default, and takes those of the data only if told to.
    taken = [key for key in SUPPLIED["net"] if key in parameters]
    taken = [key for key in taken if key == "num_classes" or parameters[key].default is not None]
    name = zoo_name(config["checkpoint"])
    stated = {} if name is None else zoo_card(name)["net"]
    supplied: dict[str, Any] = {key: getattr(data, key, None) for key in taken}
    supplied = {key: stated.get(key) if value is None else value for key, value in supplied.items()}
    rejects = describe(config["objective"]["_target_"]).constants.get("rejection_class", False)
    missing = [key for key in taken if supplied[key] is None and (parameters[key].default is not None or rejects)]
    if missing:
        raise UserError(
            f"config: net takes {', '.join(missing)}, which {type(data).__name__} does not state: "
            f"set {', '.join(f'data.{key}' for key in missing)}"
        )
    for key in taken:
        if key in stated and not np.allclose(supplied[key], stated[key], rtol=1e-4):
            raise UserError(f"zoo:{name} was trained with {key} {stated[key]}, the data state {supplied[key]}")
    node = {key: value for key, value in config["net"].items() if not (key in taken and value is None)}
    if rejects and "num_classes" in taken:
        supplied["num_classes"] += 1
    net: nn.Module = build(node, "net", **supplied)
    return net


def build_objective(config: Mapping[str, Any], net: nn.Module) -> Objective:
    """Return the objective around a net."""
    optim, attack = build(config["optim"], "optim"), build(config["attack"]["train"], "attack.train")
    supplied = {"net": net, "optim": optim, "attack": attack, "inner_batchnorm": config["attack"]["inner_batchnorm"]}
    objective: Objective = build(config["objective"], "objective", **supplied)
    return objective


def build_detectors(config: Mapping[str, Any]) -> dict[str, Detector]:
    """Return the detectors by name."""
    return {name: build(node, f"detector.{name}") for name, node in config["detector"].items()}


def build_attack(config: Mapping[str, Any]) -> Attack:
    """Return the attack of the evaluation."""
    attack: Attack = build(config["attack"]["eval"], "attack.eval")
    return attack


def build_evaluation(config: Mapping[str, Any]) -> EvaluationSettings:
    """Return the settings of the evaluation."""
    return EvaluationSettings(**config["evaluation"])


def build_validation(
    config: Mapping[str, Any], data: RobustOODData, evaluation: EvaluationSettings
) -> list[Validation]:
    """Return the validation during the training, reading its images; empty where there is none."""
    settings, attack = ValidationSettings(**config["validation"]), config["attack"]["eval"]
    if not settings.every_n_epochs or config["checkpoint"] is not None:
        return []
    if attack.get("norm", "linf") != "linf":
        raise UserError(f"config: validation attacks in the norm linf, attack.eval.norm is {attack['norm']}")
    return [Validation(settings, data, attack["epsilon"], evaluation, config["seed"])]
