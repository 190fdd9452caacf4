"""The number of files that adding a thing touches: those that define, import or build an existing one."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = [
    path
    for pattern in ("src/aloe_lightning/**/*.py", "src/aloe_lightning/**/*.yaml", "conf/**/*.yaml")
    for path in ROOT.glob(pattern)
    if "src/aloe_lightning/conf/" not in path.as_posix()
]
# The paper's tables and experiments use things, version 0.1 knew some, and the package's top level repeats the names of
# some for convenience: none is a part of a thing.
USERS = ("src/aloe_lightning/__init__.py", "src/aloe_lightning/paper/", "src/aloe_lightning/config/migration.py")
USERS += ("conf/experiment/", "conf/sweep/", "conf/ood/paper_for/", "conf/detector/paper_for/")


def touched(pattern):
    """The files whose text or name matches."""
    names = {path.relative_to(ROOT).as_posix(): path for path in FILES}
    found = {name for name, path in names.items() if re.search(pattern, path.read_text())}
    return {name.removeprefix("src/aloe_lightning/") for name in found if not name.startswith(USERS)}


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("Energy", {"detectors/logits.py", "detectors/__init__.py", "conf/detector/energy.yaml"}),
        ("MaxLogit", {"detectors/logits.py", "detectors/__init__.py", "conf/detector/max_logit.yaml"}),
        ("AOE", {"objectives/aoe.py", "objectives/__init__.py", "conf/objective/aoe.yaml"}),
        ("OE", {"objectives/oe.py", "objectives/__init__.py", "conf/objective/oe.yaml"}),
        ("SmallNet", {"nets/small.py", "nets/__init__.py", "conf/net/small.yaml"}),
    ],
)
def test_a_detector_an_objective_or_a_net_is_three_files(name, files):
    assert touched(rf"class {name}\b|import [^\n]*\b{name}\b|\.{name}\b") == files


@pytest.mark.parametrize("name", ["isun", "lsun_r", "textures"])
def test_an_ood_set_of_pictures_is_two_files_without_python(name):
    files = touched(rf"dataset: {name}\b|^name: {name}\b") | {
        path.relative_to(ROOT).as_posix().removeprefix("src/aloe_lightning/") for path in FILES if path.stem == name
    }
    assert files == {f"data/catalogue/ood/{name}.yaml", f"conf/ood/{name}.yaml"}


def test_an_in_distribution_set_is_four_files():
    facts = {path.relative_to(ROOT / "src" / "aloe_lightning").as_posix() for path in FILES if path.name == "gtsrb.yaml"
             and "catalogue" in path.parts}  # fmt: skip
    assert touched(r"class GTSRB\b|import [^\n]*\bGTSRB\b|data\.GTSRB\b") | facts == {
        *("data/sets/gtsrb.py", "data/__init__.py", "data/catalogue/in_distribution/gtsrb.yaml"),
        "conf/data/gtsrb.yaml",
    }
