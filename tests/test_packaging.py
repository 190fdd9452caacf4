"""What is installed: every package of the source and every file of the configuration."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
CONF = REPOSITORY / "conf"


def setuptools_settings():
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]


def test_the_list_of_packages_is_complete():
    source = REPOSITORY / "src"
    packages = {".".join(file.parent.relative_to(source).parts) for file in source.rglob("__init__.py")}
    listed = setuptools_settings()["packages"]
    assert sorted(listed) == sorted(packages | {"aloe_lightning.conf"})


def test_no_folder_of_modules_lacks_its_init():
    source = REPOSITORY / "src" / "aloe_lightning"
    assert {file.parent for file in source.rglob("*.py")} == {file.parent for file in source.rglob("__init__.py")}


def test_the_command_is_main():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"aloe-lightning": "aloe_lightning.cli.main:main"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Names and contents of the files in a wheel built from a copy of the repository."""
    copy = tmp_path_factory.mktemp("repository")
    leave = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for folder in ("src", "conf"):
        shutil.copytree(REPOSITORY / folder, copy / folder, ignore=leave)
    for file in ("pyproject.toml", "README.md"):
        shutil.copy(REPOSITORY / file, copy)
    for file in REPOSITORY.glob("LICEN[CS]E*"):
        shutil.copy(file, copy)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(copy / "dist"), str(copy)]
    environment = {**os.environ, "PIP_NO_INDEX": "1"}
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = (copy / "dist").glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_every_config_file_is_in_the_wheel_as_it_is_here(wheel):
    here = {f"aloe_lightning/conf/{file.relative_to(CONF).as_posix()}": file for file in CONF.rglob("*.yaml")}
    there = {name for name in wheel if name.startswith("aloe_lightning/conf/") and name.endswith(".yaml")}
    assert there == set(here)
    assert [name for name, file in here.items() if wheel[name] != file.read_bytes()] == []


def test_every_module_is_in_the_wheel_and_nothing_else_of_ours(wheel):
    source = REPOSITORY / "src"
    here = {file.relative_to(source).as_posix() for file in source.rglob("*.py")} | {"aloe_lightning/conf/__init__.py"}
    assert {name for name in wheel if name.endswith(".py")} == here
    assert "aloe_lightning/py.typed" in wheel
    assert {name.split("/")[0].split("-")[0] for name in wheel} == {"aloe_lightning"}


def test_the_wheel_has_every_file_of_the_package_that_is_not_python(wheel):
    source = REPOSITORY / "src"
    data = {
        file.relative_to(source).as_posix()
        for file in (source / "aloe_lightning").rglob("*")
        if file.is_file() and file.suffix not in (".py", ".pyc")
    }
    assert data <= set(wheel)
