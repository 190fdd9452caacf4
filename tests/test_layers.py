"""The layers of the package: a module imports only from what stands before it, and stays short."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import aloe_lightning

ROOT = Path(aloe_lightning.__file__).parent
ORDER = [
    *("errors", "atomic", "randomness", "progress", "schema", "identity", "config", "arguments", "store", "records"),
    *("data", "nets", "losses", "attacks", "objectives", "metrics", "detectors", "evaluate", "results", "report"),
    *("hardware", "tracking", "checkpoint", "train", "build", "run", "plan", "dashboard", "app", "__main__"),
]
LIGHT = [
    *("__init__", "errors", "atomic", "progress", "config", "arguments", "app", "identity", "store", "records", "plan"),
    *("schema/__init__", "schema/nodes", "schema/data", "schema/config"),
    *("data/__init__", "data/card", "data/catalogue", "data/fetch", "data/unpack", "data/__main__"),
]
"""Files that answer `--help`, a typo or `data list`."""
FILES = sorted(ROOT.rglob("*.py"))


def module_of(path):
    """`data/cifar.py` -> `data.cifar`, `data/__init__.py` -> `data`, `__init__.py` -> ``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path) for path in FILES}


def imports_of(source):
    """(module of ours or of others, whether at the top level of the file) for every import in a file."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a name comes from"
            module = node.module.removeprefix("aloe_lightning.")
            names = [f"{node.module}.{a.name}" if f"{module}.{a.name}" in MODULES else node.module for a in node.names]
        else:
            continue
        yield from ((name, node in tree.body) for name in names)


def ours(source):
    return {
        name.removeprefix("aloe_lightning.") for name, _ in imports_of(source) if name.startswith("aloe_lightning.")
    }


def layer(module):
    return ORDER.index(module.split(".")[0])


def test_every_module_has_a_place_in_the_order():
    assert {module.split(".")[0] for module in MODULES} - {""} == set(ORDER)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_from_what_stands_before_it(path):
    module = module_of(path)
    if not module:
        assert ours(path.read_text()) == set(), "the package itself imports nothing"
        return
    late = [
        name
        for name in ours(path.read_text())
        if layer(name) >= layer(module) and name.split(".")[0] != module.split(".")[0]
    ]
    assert late == []


def test_within_a_package_imports_run_in_no_circle():
    graph = {module_of(path): ours(path.read_text()) for path in FILES}
    order = list(TopologicalSorter(graph).static_order())
    assert order.index("data.source") < order.index("data.files") < order.index("data.datamodule") < order.index("data")


@pytest.mark.parametrize("name", LIGHT)
def test_what_answers_a_typo_does_not_wait_for_torch(name):
    top = {imported.split(".")[0] for imported, first in imports_of((ROOT / f"{name}.py").read_text()) if first}
    heavy = {"torch", "torchvision", "pytorch_lightning", "torchmetrics", "wandb", "matplotlib", "scipy", "numpy"}
    assert not top & (heavy | {"pooch", "PIL"})
    known = {"aloe_lightning." + light.replace("/", ".").removesuffix(".__init__") for light in LIGHT}
    ours_at_top = {imported for imported, first in imports_of((ROOT / f"{name}.py").read_text()) if first}
    assert {imported for imported in ours_at_top if imported.startswith("aloe_lightning")} <= known


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_short(path):
    assert len(path.read_text().splitlines()) <= 260


def test_no_module_is_a_drawer_for_everything():
    assert {path.stem for path in FILES} & {"utils", "util", "helpers", "helper", "misc", "common", "tools"} == set()


def test_this_test_sees_imports_of_every_form():
    source = (
        "import aloe_lightning.data.cifar\n"
        "from aloe_lightning.data.sets import demo_pictures, CIFAR\n"
        "def f():\n    from aloe_lightning.run import run_cell\n"
    )
    assert ours(source) == {"data.cifar", "data.demo_pictures", "data", "run"}
