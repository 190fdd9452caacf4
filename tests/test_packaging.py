"""The installed package: every package of the source, every file of the configuration, under our name and licence."""

import email
import hashlib
import importlib
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import aloe_lightning
from aloe_lightning.cli.main import main

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


def test_the_program_prints_its_version(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["aloe_lightning"])
    main(["--version"])
    assert capsys.readouterr().out.startswith(f"aloe_lightning {aloe_lightning.__version__} (Python 3.")


def test_every_exported_name_is_the_object_of_its_room():
    rooms = {
        name: importlib.import_module(f"aloe_lightning.{module}") for name, module in aloe_lightning._MODULE_OF.items()
    }
    assert set(rooms) | {"__version__"} == set(aloe_lightning.__all__) <= set(dir(aloe_lightning))
    assert all(getattr(aloe_lightning, name) is getattr(room, name) for name, room in rooms.items())
    with pytest.raises(AttributeError, match="no attribute 'ALOF'"):
        aloe_lightning.ALOF  # noqa: B018


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, aloe_lightning; print(*sorted(m for m in sys.modules if m.startswith('aloe_lightning')))"
    done = subprocess.run([sys.executable, "-c", code + "; assert 'torch' not in sys.modules"], capture_output=True)
    assert (done.returncode, done.stdout.split()) == (0, [b"aloe_lightning"])


def test_the_licence_is_apache_2_0_and_no_file_has_a_header():
    # The digest of the text that the Apache Software Foundation publishes.
    published = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    assert hashlib.sha256((REPOSITORY / "LICENSE").read_bytes()).hexdigest() == published
    sources = [path for folder in ("src", "conf", "tests", "examples") for path in (REPOSITORY / folder).rglob("*.py")]
    assert [path for path in sources if path != Path(__file__) and "Licensed under" in path.read_text()] == []


def test_the_citation_names_the_version_the_licence_and_the_paper():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert (citation["cff-version"], citation["version"]) == ("1.2.0", aloe_lightning.__version__)
    assert citation["license"] == tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["license"]
    (paper,) = citation["references"]
    assert paper["title"] == "Robust Out-of-distribution Detection for Neural Networks"
    assert paper["identifiers"][0]["value"] == "arXiv:2003.09711"


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


def test_the_wheel_says_whose_it_is_and_under_which_licence(wheel):
    (metadata,) = (
        email.message_from_string(text.decode()) for name, text in wheel.items() if name.endswith("/METADATA")
    )
    assert metadata["Name"] == "aloe-lightning"
    assert metadata["Version"] == aloe_lightning.__version__
    assert (metadata["License-Expression"], metadata["License-File"]) == ("Apache-2.0", "LICENSE")
    assert metadata["Author"] == "The aloe_lightning authors"
    assert "out-of-distribution detection" in metadata["Keywords"].split(",")
    assert "Typing :: Typed" in metadata.get_all("Classifier")
    assert metadata.get_payload() == (REPOSITORY / "README.md").read_text()
