"""`--help` explains every key, without waiting for torch."""

import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from composing import composed


@pytest.fixture
def page(command, capsys):
    command("--help")
    return capsys.readouterr().out


def test_every_key_has_its_value_and_a_comment(page):
    lines = page.split("== Config ==")[1].splitlines()
    config = OmegaConf.to_container(composed(), resolve=False)
    for key, value in config.items():
        if not isinstance(value, dict):
            (place,) = (k for k, line in enumerate(lines) if line.startswith(f"{key}:"))
            assert "#" in lines[place] or lines[place - 1].startswith("#"), key
    assert "epsilon: 3   # adversarial budget in 1/255 pixel steps, of training and of evaluation." in lines
    assert "  temperature: 1000" in page
    assert "  max_steps: 150   # length of the training in steps; -1: given by max_epochs." in lines


def test_every_group_is_listed_with_its_choices(page):
    for line in (
        "objective: acet, adv, aloe, aoe, atom, halo, ntom, oe, original",
        "scale: fast, small",
        "launcher: basic, joblib, ray, submitit, submitit_local",
    ):
        assert line in page.splitlines()


def test_the_help_is_of_the_chosen_config(command, capsys):
    command("+experiment=cifar10_aloe", "--help")
    page = capsys.readouterr().out
    assert "net:   # aloe_lightning.nets.DenseNet" in page
    assert "  growth_rate: 12   # channels" in page


def test_help_waits_for_no_torch():
    code = (
        "import sys; from aloe_lightning.cli.main import main; main(['--help']); "
        "assert not {'torch', 'pytorch_lightning', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize("word", ["epsilonn=2", "optim.lr=-1", "detector.odin.temperature=0"])
def test_a_mistake_waits_for_no_torch(word):
    code = (
        "import sys\nfrom aloe_lightning.cli.main import main\n"
        f"try: main([{word!r}])\nexcept SystemExit as end: assert end.code == 2\n"
        "assert not {'torch', 'pytorch_lightning'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
