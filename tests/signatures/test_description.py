"""Descriptions read from the source text agree with the imported classes."""

import inspect
import subprocess
import sys
import typing

import pytest
from hydra.utils import get_class

from aloe_lightning.signatures.checked import is_plain
from aloe_lightning.signatures.description import REQUIRED, describe, parameter_comments, targets_like
from aloe_lightning.signatures.source import OPAQUE, is_own_class, outline


def constructible():
    """Every class that a config can name: those of the rooms, and the sections of plain keys."""
    targets = [t for room in ("data", "nets", "objectives", "attacks", "detectors") for t in targets_like(f"{room}.")]
    targets += ["aloe_lightning.evaluation.evaluate.EvaluationSettings", "aloe_lightning.config.root.Trainer"]
    outlined = [target for target in targets if is_own_class(outline(target.rpartition(".")[0])[target.split(".")[-1]])]
    return [target for target in outlined if is_built(get_class(target))]


def is_built(cls):
    """Protocols, abstract interfaces, batches and exceptions are exported, too, and no config names them."""
    if issubclass(cls, Exception):
        return False
    return not getattr(cls, "_is_protocol", False) and not issubclass(cls, tuple) and cls.__name__ != "Classifier"


CLASSES = constructible()


def test_there_are_classes_of_every_room():
    assert {target.split(".")[1] for target in CLASSES} == {
        *("data", "nets", "objectives", "attacks", "detectors", "evaluation", "config")
    }
    assert len(CLASSES) > 30


@pytest.mark.parametrize("target", CLASSES)
def test_parameters_and_defaults_are_those_of_the_class(target):
    cls = get_class(target)
    described, signature = describe(target).parameters, inspect.signature(cls).parameters
    assert set(described) == set(signature)
    for name, parameter in signature.items():
        if parameter.default is inspect.Parameter.empty:
            assert described[name].default is REQUIRED
        elif described[name].default is not OPAQUE and is_plain(described[name].annotation):
            factory = "factory" in repr(parameter.default)
            assert factory or described[name].default == parameter.default


@pytest.mark.parametrize("target", CLASSES)
def test_plain_annotations_are_those_of_the_class(target):
    cls = get_class(target)
    hints = typing.get_type_hints(cls.__init__, include_extras=True)
    for name, parameter in describe(target).parameters.items():
        if name in hints and is_plain(hints[name]):
            assert parameter.annotation == hints[name], name


def test_constants_are_read_through_the_base_classes():
    assert describe("aloe_lightning.objectives.ALOE").constants["perturbs_outliers"] is True
    assert describe("aloe_lightning.objectives.OE").constants["perturbs_inliers"] is False


def test_classes_from_elsewhere_are_imported():
    described = describe("outside.Plain")
    assert described.parameters["outlier_weight"].default == 0.5
    assert described.constants["uses_outliers"] is False
    assert described.identity == "outside.Plain"
    with pytest.raises(LookupError, match=r"cannot import 'outside\.Nothing'"):
        describe("outside.Nothing")
    with pytest.raises(LookupError, match=r"nothing called 'aloe_lightning\.nets\.DensNet'"):
        describe("aloe_lightning.nets.DensNet")


def test_comments_are_the_entries_of_a_docstring():
    text = """Title.

    Attributes:
        one: first
            line.
        two: second.

    Returns:
        three: no parameter.
    """
    assert parameter_comments([text]) == {"one": "first line.", "two": "second."}


def test_every_parameter_that_a_config_can_set_has_a_comment():
    missing = [
        f"{target}: {name}"
        for target in CLASSES
        for name, parameter in describe(target).parameters.items()
        if not parameter.comment and is_plain(parameter.annotation)
    ]
    assert missing == []


def test_a_description_imports_no_torch():
    code = (
        "import sys; from aloe_lightning.signatures.description import describe; "
        "describe('aloe_lightning.objectives.ALOE'); describe('aloe_lightning.nets.DenseNet'); "
        "assert not {'torch', 'pytorch_lightning', 'pydantic'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
