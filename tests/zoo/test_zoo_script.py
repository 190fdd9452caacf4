"""examples/zoo.sh: each of its commands is valid, and it stops them at its end."""

import os
import stat
import subprocess
import time
from pathlib import Path

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra

from aloe_lightning.config.validation import validated

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "zoo.sh"


def run(tmp_path, body, *arguments, **environment):
    """Run the script with a program of this text in place of Python."""
    program = tmp_path / "bin" / "python3"
    program.parent.mkdir()
    program.write_text("#!/usr/bin/env bash\n" + body)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    variables = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls")}
    command = ["bash", str(SCRIPT), str(tmp_path / "data"), str(tmp_path / "out"), *arguments]
    (tmp_path / "data").mkdir()
    return subprocess.run(command, env=variables | environment, capture_output=True, text=True, timeout=60)


def test_every_command_of_the_script_is_valid(tmp_path):
    done = run(tmp_path, 'printf "%s\\037" "$@" >> "$CALLS"; echo >> "$CALLS"\n', JOBS="1")
    assert done.returncode == 0, done.stderr
    calls = [line.split("\037")[:-1] for line in (tmp_path / "calls").read_text().splitlines()]
    configs = []
    GlobalHydra.instance().clear()
    with initialize_config_module("aloe_lightning.conf", version_base="1.3"):
        for module, *words in (call[1:] for call in calls):
            assert module == "aloe_lightning"
            configs.append(validated(compose("config", words)))
    GlobalHydra.instance().clear()
    nets = [(c["data"]["name"], c["objective"]["name"], c["net"]["name"]) for c in configs]
    paper = ["aloe", "original", "oe", "adv", "aoe"]
    expected = [("cifar10", name, "small") for name in [*paper, "halo"]] + [("gtsrb", name, "small") for name in paper]
    assert nets[::2] == nets[1::2] == [*expected, ("cifar10", "aloe", "densenet"), ("cifar10", "oe", "densenet")]
    assert [c["attack"]["name"] for c in configs] == ["paper", "strong"] * 13
    assert {c["trainer"]["max_epochs"] for c in configs[:12]} == {60}


def test_at_its_end_the_script_asks_a_training_to_stop_and_starts_no_other(tmp_path):
    started = time.monotonic()
    body = 'echo started >> "$CALLS"; trap "echo stopped >> $CALLS; exit 143" TERM; sleep 30 & wait\n'
    done = run(tmp_path, body, "7", JOBS="1", ONLY="cifar10 (aloe|oe) 60")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 20
    assert (tmp_path / "calls").read_text().split() == ["started", "stopped"]
