"""Every command in the README and the docs: run here, or composed and validated, or listed with the reason why not."""

import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from aloe_lightning.cli.main import normalised
from aloe_lightning.config.validation import validated
from aloe_lightning.data.__main__ import main as data
from aloe_lightning.data.__main__ import parser
from aloe_lightning.data.catalogue import cards
from aloe_lightning.nets import SmallNet
from aloe_lightning.storage.zoo import zoo_names
from aloe_lightning.zoo.__main__ import parser as zoo_parser

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = {
    "pip install .": "installs into the environment; tests/test_packaging.py builds and reads the wheel",
    "aloe-lightning": "two minutes; tests/test_end_to_end.py runs it on tiny data",
    "python -m aloe_lightning": "two minutes; tests/test_end_to_end.py runs it on tiny data",
    "python -m aloe_lightning.report outputs": "requires finished runs; tests/report/test_full.py runs it on some",
    "python -m aloe_lightning.report --leaderboard entries --out leaderboard": "requires entries; "
    "tests/report/test_leaderboard.py runs it on some",
    "bash examples/zoo.sh DATA outputs/zoo 3600": "an hour; tests/zoo/test_zoo_script.py takes each of its commands",
}
"""Commands that are neither run nor composed here, with the reason."""


def blocks(language):
    """(page, title, text) of each fenced block of a language."""
    for page in PAGES:
        for info, text in FENCE.findall(page.read_text()):
            if info.split()[:1] == [language]:
                title = re.search(r'title="([^"]+)"', info)
                yield page, title and title[1], text


def command_lines():
    """Each command as words, with the variables that its block sets; and the same as text for NOT_RUN."""
    found = {}
    for page, _, text in blocks("bash"):
        variables = {}
        for line in text.replace("\\\n", " ").splitlines():
            for name, value in variables.items():
                line = line.replace(f"${name}", value)
            words = shlex.split(line, comments=True)
            if len(words) == 1 and re.fullmatch(r"\w+=.*", words[0]):
                variables[words[0].split("=")[0]] = words[0].split("=", 1)[1]
            elif words:
                found.setdefault(tuple(words), page.relative_to(ROOT).as_posix())
    return found


COMMANDS = command_lines()
IDS = [f"{page}: {' '.join(words)}"[:90] for words, page in COMMANDS.items()]


@cache
def jobs(words):
    """The first and the last job of a command line, as lists of overrides; tests/cli/test_dry_run.py takes them all."""
    plain = [word for word in normalised(words) if not word.startswith("-")]
    parse = OverridesParser.create().parse_override
    swept = compose("config", [word for word in plain if not parse(word).is_sweep_override()], return_hydra_config=True)
    params = [f"{key}={value}" for key, value in (swept.hydra.sweeper.params or {}).items()]
    (found,) = BasicSweeper.split_arguments([parse(word) for word in [*params, *plain]], None)
    return found[:1] + found[1:][-1:]


def check_experiment(words):
    """Compose and validate; a launcher that is not installed is only looked up."""
    for word in words:
        if word.startswith("launcher="):
            assert (ROOT / "conf" / "launcher" / f"{word.partition('=')[2]}.yaml").is_file()
    words = tuple(word for word in words if not word.startswith(("launcher=", "hydra.launcher.")) and word != "--dry")
    GlobalHydra.instance().clear()
    with initialize_config_module("aloe_lightning.conf", version_base="1.3"):
        configs = [validated(compose("config", job)) for job in jobs(words)]
    GlobalHydra.instance().clear()
    assert len(configs) == (2 if "-m" in words or any(word.startswith("+sweep=") for word in words) else 1)
    given = dict(word.split("=", 1) for word in words if re.match(r"(epsilon|seed|study|checkpoint)=", word))
    first = {key: type(configs[0][key])(value.split(",")[0]) for key, value in given.items()}
    assert {key: configs[0][key] for key in first} == first


def check_data(words, capsys):
    """Run what reads no set; parse the rest, whose names must be known."""
    options = parser().parse_args(words)
    names = [name for name in getattr(options, "names", [getattr(options, "name", "demo")]) if "/" not in name]
    assert set(names) <= {*cards(), "demo", "all"}
    if words[0] in ("list", "show"):
        assert data(words) == 0
        printed = capsys.readouterr().out
        assert all(f"{name}:" in printed for name in names if words[0] == "show")


@pytest.fixture
def forgotten_modules(tmp_path):
    """Forget the modules that a test imports from its folder: `mine` of a page is not that of another test."""
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("words", COMMANDS, ids=IDS)
def test_a_command_is_valid(words, monkeypatch, tmp_path, capsys, forgotten_modules):
    if " ".join(words) in NOT_RUN:
        return
    monkeypatch.setattr(sys, "argv", ["aloe_lightning"])
    for page, title, text in blocks("python"):
        if title and COMMANDS[words] == page.relative_to(ROOT).as_posix():
            (tmp_path / title).write_text(text)
    words = list(words)
    if words[0].startswith("PYTHONPATH="):
        folder = words.pop(0).partition("=")[2]
        monkeypatch.syspath_prepend(tmp_path if folder == "." else ROOT / folder)
    monkeypatch.chdir(tmp_path)
    program, words = words[:3], words[3:]
    if program[0] == "make":
        done = subprocess.run(["make", "-n", *program[1:]], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    elif program == ["python", "-m", "aloe_lightning.data"]:
        check_data(words, capsys)
    elif program == ["python", "-m", "aloe_lightning.zoo"]:
        options = zoo_parser().parse_args(words)
        assert set(getattr(options, "names", [])) | {getattr(options, "name", zoo_names()[0])} <= {*zoo_names(), "mine"}
    elif words == ["--help"]:
        done = subprocess.run([sys.executable, *program[1:], *words], capture_output=True, text=True)
        assert "== Config ==" in done.stdout, done.stderr
    else:
        assert program == ["python", "-m", "aloe_lightning"], "run it here, or give the reason in NOT_RUN"
        check_experiment(words)


def test_every_reason_is_for_a_command_that_stands_there():
    assert set(NOT_RUN) <= {" ".join(words) for words in COMMANDS}
    assert len(COMMANDS) > 35


def test_a_mistake_in_a_command_would_be_found():
    with pytest.raises(Exception, match="epsilonn"):
        check_experiment(["+experiment=cifar10_aloe", "epsilonn=2"])
    with pytest.raises(SystemExit):
        parser().parse_args(["prepair", "cifar10"])


def test_every_block_names_its_language():
    infos = [(page.name, info) for page in PAGES for info, _ in FENCE.findall(page.read_text())]
    wrong = [(page, info) for page, info in infos if info.split()[:1] not in (["bash"], ["python"], ["text"])]
    assert wrong == []


def test_a_blank_line_is_before_each_list():
    """Otherwise the site shows the items as one paragraph."""
    item, text = r"(?:[-*]|\d+\.) ", r"(?![-*] |\d+\. |#|\s|`)\S.*"
    found = {page.name: re.search(rf"(?m)^{text}\n{item}.*", FENCE.sub("", page.read_text())) for page in PAGES}
    assert {name: match[0] for name, match in found.items() if match} == {}


def test_every_block_of_python_is_run_by_a_test():
    tests = {
        "aloe_lightning.robustness import evaluate": "tests/robustness/test_new_user.py: in the README and a how-to",
        "import zoo": "tests/zoo/test_zoo.py: in the README and on its page",
        "ood_metrics": "here",
        "class ResNet": "here",
    }
    found = sorted(" and ".join(text for text in tests if text in block) for _, _, block in blocks("python"))
    assert found == sorted([*tests, *list(tests)[:2]]), "give the new block a test"


def test_the_python_of_the_readme_runs(capsys):
    (text,) = (text for page, _, text in blocks("python") if page.name == "README.md" and "ood_metrics" in text)
    images = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    exec(text, {"net": SmallNet(10, width=8).eval(), "id_images": images[:4], "ood_images": images[4:]})
    metrics = eval(capsys.readouterr().out)
    assert set(metrics) >= {"fpr95", "detection_error", "auroc", "aupr_in", "aupr_out"}
    assert all(0 <= metrics[name] <= 1 for name in ("fpr95", "auroc"))


def test_the_net_of_the_how_to_is_a_net():
    ((text),) = (text for page, title, text in blocks("python") if title == "mine.py")
    namespace = {}
    exec(text, namespace)
    net = namespace["ResNet"](7, [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]).eval()
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(net(images), net.body((images - 0.5) / 0.25))
    assert net(images).shape == (2, 7)


def test_the_configuration_reference_explains_every_key_of_the_help():
    sys.path.insert(0, str(ROOT / "docs" / "site"))
    try:
        from configuration import configuration
    finally:
        sys.path.pop(0)
    page = configuration()
    assert "| `epsilon` | float, at least 0, at most 255 | `3` | adversarial budget in 1/255 pixel steps" in page
    assert "| `temperature` | float, above 0, or null | `1000` | T; null chooses" in page
    rows = [line for line in page.splitlines() if re.match(r"\| `[a-z_0-9]+` \|", line)]
    assert len(rows) > 100
    assert [row for row in rows if row.rstrip().endswith("|  |")] == []


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_loads_nothing_from_another_host(tmp_path):
    pytest.importorskip("mkdocstrings", reason="the extra [docs] installs it; `make docs` builds the site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 30
    loads = re.compile(r"<(?:script|img|iframe)[^>]+src=.https?://|<link[^>]+rel=.(?:stylesheet|preconnect)[^>]+//")
    assert [page.name for page in pages if loads.search(page.read_text())] == []
    settings = (tmp_path / "reference" / "configuration.html").read_text()
    assert "perceptual_distance" in settings
    assert "<!-- include" not in "".join(page.read_text() for page in pages)
