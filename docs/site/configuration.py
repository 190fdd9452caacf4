"""The configuration reference: each class that a config may build, with the parameters of its signature."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from annotated_types import Ge, Gt, Interval, Le, Len, Lt

from aloe_lightning.config.layout import FROM_PATHS, ROOT, ROOT_MODULE, SECTIONS, SUPPLIED
from aloe_lightning.signatures.description import REQUIRED, Parameter, describe

CONF = Path(__file__).resolve().parents[2] / "conf"
GROUPS = ("data", "outliers", "ood", "net", "objective", "attack", "detector", "optim")
EXPERIMENTS = ("experiment", "scale", "sweep", "launcher")


def configuration() -> str:
    """Return the reference in Markdown."""
    return "\n".join([*_root(), *_sections(), *_classes(), *_experiments()])


def _root() -> Iterator[str]:
    values = yaml.safe_load((CONF / "config.yaml").read_text())
    yield "## Root keys\n"
    plain = {key: each for key, each in describe(ROOT).parameters.items() if not (CONF / key).is_dir()}
    yield from _table({key: each for key, each in plain.items() if key not in SECTIONS}, values)


def _sections() -> Iterator[str]:
    values = yaml.safe_load((CONF / "config.yaml").read_text())
    logger = {"logger": f"{ROOT_MODULE}.Logger", "logger (wandb)": f"{ROOT_MODULE}.WandbLogger"}
    for key, target in {**SECTIONS, **logger}.items():
        file = CONF / key / ("paper.yaml" if key == "attack" else "default.yaml")
        content = yaml.safe_load(file.read_text()) if file.is_file() else values.get(key)
        yield f"\n## `{key}`\n"
        parameters = describe(target).parameters
        yield from _table(parameters, content or {})


def _classes() -> Iterator[str]:
    """Yield a table for each class of each group, with the choices that build it."""
    for group in GROUPS:
        choices: dict[str, list[str]] = {}
        for file in sorted((CONF / group).glob("*.yaml")):
            for target in sorted(set(_targets(yaml.safe_load(file.read_text()))) - {"???"}):  # a class of the user
                choices.setdefault(target, []).append(file.stem)
        yield f"\n## The group `{group}`\n"
        for target, names in choices.items():
            hidden = {*SUPPLIED.get(group, ()), *FROM_PATHS}
            parameters = {key: each for key, each in describe(target).parameters.items() if key not in hidden}
            yield f"\n### {', '.join(f'`{group}={name}`' for name in names)}\n\n`{target}`\n"
            if parameters:
                yield from _table(parameters, {})
            else:
                yield "It has no keys."


def _experiments() -> Iterator[str]:
    for group in EXPERIMENTS:
        yield f"\n## The group `{group}`\n\n| choice | content |\n|:--|:--|"
        for file in sorted((CONF / group).glob("*.yaml")):
            lines = [line[2:] for line in file.read_text().splitlines() if line.startswith("# ")]
            words = [line for line in lines if not line.startswith(("@package", "python -m"))]
            sign = "" if group == "launcher" else "+"
            yield f"| `{sign}{group}={file.stem}` | {_cell(' '.join(words))} |"


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if isinstance(node.get("_target_"), str):
            yield node["_target_"]
        for value in node.values():
            yield from _targets(value)


def _table(parameters: Mapping[str, Parameter], values: Mapping[str, Any]) -> Iterator[str]:
    yield "| key | type | default | meaning |\n|:--|:--|:--|:--|"
    for key, parameter in parameters.items():
        default = values.get(key, parameter.default)
        shown = "required" if default is REQUIRED or default == "???" else f"`{_value(default)}`"
        if isinstance(default, Mapping) and "_target_" in default:
            shown = f"`{default['_target_'].rpartition('.')[2]}`"
        yield f"| `{key}` | {_cell(_type(parameter.annotation))} | {_cell(shown)} | {_cell(parameter.comment)} |"


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return yaml.safe_dump(value, default_flow_style=True, width=1000).strip().removesuffix("...").strip()


def _type(annotation: Any) -> str:
    """Describe a type with its range, such as `int, at least 1`."""
    if get_origin(annotation) is Annotated:
        base, *marks = get_args(annotation)
        ranges = [text for mark in marks for text in _range(mark)]
        return ", ".join([_type(base), *ranges])
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{_value(each)}`" for each in get_args(annotation))
    if annotation is Any:
        return "a group of keys"
    if annotation is type(None):
        return "null"
    arguments = get_args(annotation)
    if arguments and get_origin(annotation) in (list, tuple, Sequence):
        return f"list of {_type(arguments[0])}"
    if arguments:
        types = [_type(each) for each in arguments]
        return (", or " if any("," in each for each in types) else " or ").join(types)
    return str(getattr(annotation, "__name__", annotation)).replace("str", "text")


def _range(mark: Any) -> Iterator[str]:
    words = {"gt": "above {}", "ge": "at least {}", "lt": "below {}", "le": "at most {}"}
    if isinstance(mark, (Ge, Gt, Le, Lt, Interval)):
        for name, text in words.items():
            if (bound := getattr(mark, name, None)) is not None:
                yield text.format(bound)
    elif isinstance(mark, Len):
        yield "not empty" if mark.max_length is None else f"{mark.min_length} numbers"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
