"""`aloe-lightning models`: the nets of a folder of results, and which of them no cell uses."""

import json
import sys
import time

import pytest

from aloe_lightning.cli.main import main
from aloe_lightning.cli.models import stored_nets

FACTS = {"seconds": 1, "steps": 2, "trained_on": ["", ""], "sizes": {}}


def write_net(outputs, name, objective="oe"):
    folder = outputs / "models" / name
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(bytes(1000))
    attack = {"train": {"epsilon": 3.0}}
    config = {"data": {"name": "demo"}, "objective": {"name": objective}, "attack": attack, "seed": 7}
    (folder / "model.json").write_text(json.dumps({**FACTS, "config": config}))
    return folder


@pytest.fixture
def outputs(tmp_path):
    """One net that two cells use, one that none uses, and an unfinished training."""
    used = write_net(tmp_path, "demo-oe-seed7-aaaaaaaa")
    write_net(tmp_path, "demo-aloe-seed7-bbbbbbbb", "aloe")
    unfinished = tmp_path / "models" / "demo-adv-seed7-cccccccc"
    unfinished.mkdir()
    (unfinished / "last.ckpt").write_bytes(bytes(10))
    for cell in ("demo/one", "my/study/two"):
        (tmp_path / cell).mkdir(parents=True)
        (tmp_path / cell / "versions.json").write_text(json.dumps({"model": f"/moved/models/{used.name}"}))
    return tmp_path


def run(outputs, *words):
    with pytest.raises(SystemExit) as end:
        main(["models", *words, "--outputs", str(outputs)])
    return end.value.code


def names(outputs):
    return sorted(path.name for path in (outputs / "models").iterdir() if path.is_dir())


def test_the_list_names_settings_size_age_and_cells(outputs, capsys):
    assert run(outputs, "list") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    by_name = {row[0]: row[1:] for row in rows if row and row[0].startswith("demo-")}
    assert by_name["demo-oe-seed7-aaaaaaaa"][:4] == ["demo", "oe", "3", "7"]
    assert by_name["demo-oe-seed7-aaaaaaaa"][-2:] == ["demo/one,", "my/study/two"]
    assert by_name["demo-aloe-seed7-bbbbbbbb"][-2:] == ["no", "cell"]
    assert by_name["demo-adv-seed7-cccccccc"][-5:] == ["not", "trained", "to", "the", "end"]
    net = stored_nets(outputs)[1]
    files = (outputs / "models" / "demo-aloe-seed7-bbbbbbbb").iterdir()
    assert net.size == sum(path.stat().st_size for path in files)
    assert 0 <= net.age <= time.time()


@pytest.mark.parametrize(("words", "left"), [(("--dry",), 3), (("--yes",), 2), (("--yes", "--dry"), 3)])
def test_only_a_trained_net_that_no_cell_uses_is_removed(outputs, words, left):
    assert run(outputs, "prune", *words) == 0
    assert len(names(outputs)) == left
    assert {"demo-oe-seed7-aaaaaaaa", "demo-adv-seed7-cccccccc"} <= set(names(outputs))


@pytest.mark.parametrize(("typed", "left"), [("y", 2), ("yes", 2), ("", 3), ("n", 3)])
def test_it_asks_first(outputs, monkeypatch, typed, left):
    monkeypatch.setattr("builtins.input", lambda question: typed)
    assert run(outputs, "prune") == 0
    assert len(names(outputs)) == left


def test_without_a_terminal_or_a_folder_it_removes_nothing(outputs, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "stdin", open("/dev/null"))  # noqa: SIM115
    assert run(outputs, "prune") == 2
    assert "--yes removes without a question" in capsys.readouterr().err
    assert len(names(outputs)) == 3
    assert run(tmp_path / "none", "list") == 2
    assert "give --outputs" in capsys.readouterr().err
