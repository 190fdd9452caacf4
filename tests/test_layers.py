"""The order of the rooms: a folder imports only from those before it; every folder and file stays small."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import aloe_lightning

ROOT = Path(aloe_lightning.__file__).parent
ORDER = [
    *("errors", "signatures", "runtime", "paper", "losses", "metrics", "storage", "kernels", "nets", "attacks", "data"),
    *(
        "objectives",
        "detectors",
        "evaluation",
        "training",
        "report",
        "robustness",
        "tracking",
        "config",
        "zoo",
        "run",
        "cli",
        "__main__",
    ),
]
HEAVY = {
    "torch",
    "torchvision",
    "pytorch_lightning",
    "torchmetrics",
    "wandb",
    "matplotlib",
    "scipy",
    "sklearn",
    "pandas",
}
LIGHT = [
    *("__init__", "errors", "metrics", "runtime/process", "runtime/progress", "runtime/processor", "runtime/devices"),
    *("evaluation/__init__", "evaluation/records", "evaluation/scores"),
    *(f"{room}/{path.stem}" for room in ("signatures", "paper") for path in sorted((ROOT / room).glob("*.py"))),
    *(f"storage/{name}" for name in ("__init__", "files", "cache", "fingerprints", "models", "cells", "zoo")),
    *(f"config/{name}" for name in ("__init__", "root", "layout", "validation", "resolvers", "migration")),
    *(f"cli/{path.stem}" for path in sorted((ROOT / "cli").glob("*.py"))),
    *("data/__init__", "data/__main__", "data/catalogue/__init__", "data/catalogue/card"),
    "data/download/fetch",
]
"""Files that answer `--help`, a mistake, `--dry` or `data list`: nobody waits for torch there."""
FILES = sorted(path for path in ROOT.rglob("*.py") if "conf" not in path.relative_to(ROOT).parts)
FOLDERS = sorted({path.parent for path in FILES} - {ROOT})


def module_of(path):
    """`data/batches.py` -> `data.batches`, `data/__init__.py` -> `data`, `__init__.py` -> ``."""
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
def test_a_module_imports_only_from_rooms_before_its_own(path):
    module = module_of(path)
    if not module:
        top = {name for name, first in imports_of(path.read_text()) if first}
        assert top == {"importlib", "typing"}, "the package itself imports a name when it is used"
        return
    late = [
        name
        for name in ours(path.read_text())
        if layer(name) >= layer(module) and name.split(".")[0] != module.split(".")[0]
    ]
    assert late == []


def test_within_a_room_imports_run_in_no_circle():
    graph = {module_of(path): ours(path.read_text()) for path in FILES}
    order = list(TopologicalSorter(graph).static_order())
    assert order.index("data.images.source") < order.index("data.images.files") < order.index("data.datamodule")


@pytest.mark.parametrize("name", LIGHT)
def test_answers_to_a_mistake_do_not_wait_for_torch(name):
    top = {imported for imported, first in imports_of((ROOT / f"{name}.py").read_text()) if first}
    assert not {imported.split(".")[0] for imported in top} & (HEAVY | {"requests", "PIL"})
    known = {f"aloe_lightning.{light.replace('/', '.')}".removesuffix(".__init__") for light in LIGHT}
    assert {imported for imported in top if imported.startswith("aloe_lightning")} <= known


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_short(path):
    assert len(path.read_text().splitlines()) <= 250


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_folder_fits_on_a_screen(folder):
    assert len([path for path in folder.iterdir() if path.is_file()]) <= 12


def test_the_top_level_shows_rooms():
    modules = {path.stem for path in ROOT.glob("*.py")} - {"__init__", "__main__"}
    assert modules == {"errors", "losses", "metrics", "run"}
    assert len([folder for folder in FOLDERS if folder.parent == ROOT]) <= 18


def test_no_module_is_a_drawer_for_everything():
    assert {path.stem for path in FILES} & {"utils", "util", "helpers", "helper", "misc", "common", "tools"} == set()


def test_this_test_sees_imports_of_every_form():
    source = (
        "import aloe_lightning.data.batches\n"
        "from aloe_lightning.data import datamodule, CIFAR10\n"
        "def f():\n    from aloe_lightning.run import run_cell\n"
    )
    assert ours(source) == {"data.batches", "data.datamodule", "data", "run"}
