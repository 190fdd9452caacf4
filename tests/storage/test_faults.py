"""A full disk and damaged files: a named error or a warning, never a torn file, and nothing is lost."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from aloe_lightning.errors import UserError
from aloe_lightning.evaluation.records import read_records
from aloe_lightning.evaluation.scores import Scores
from aloe_lightning.nets import SmallNet
from aloe_lightning.runtime.seeding import seed_of
from aloe_lightning.storage.cells import facts_of
from aloe_lightning.storage.files import atomic_write, read_json, write_json
from aloe_lightning.storage.models import TrainedModel
from aloe_lightning.storage.weights import load_weights, save_weights
from test_end_to_end import TINY


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no permission to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_a_clear_error_and_leaves_the_earlier_file(small_disk):
    write_json(small_disk / "facts.json", {"earlier": 1})
    with pytest.raises(UserError, match=r"cannot write .*facts.json: No space left on device"):
        write_json(small_disk / "facts.json", {"large": "x" * 200_000})
    assert read_json(small_disk / "facts.json") == {"earlier": 1}
    assert [path.name for path in small_disk.iterdir()] == ["facts.json"]
    with pytest.raises(UserError, match="No space left on device"):
        Scores({("msp", "id", "clean"): np.random.default_rng(0).random(20_000)}).save(small_disk / "scores.npz")
    with pytest.raises(UserError, match="No space left on device"):
        save_weights(small_disk / "weights.safetensors", SmallNet(10), {})
    assert [path.name for path in small_disk.iterdir()] == ["facts.json"]


def test_a_training_goes_on_when_its_state_cannot_be_saved(small_disk, command, capsys):
    """Only the weights, at its end, must fit."""
    outputs = small_disk / "outputs"
    with pytest.raises(SystemExit) as end:
        command("objective=oe", *TINY, "trainer.max_steps=4", "checkpoint_seconds=1e-9", f"paths.outputs={outputs}")
    assert end.value.code == 2
    printed = capsys.readouterr().err
    assert printed.count("the state of the training is not saved: cannot write") == 3, printed
    assert "oe: trained in" in printed
    assert "weights.safetensors: No space left on device; make room or permit it" in printed


def test_an_error_of_another_kind_is_not_disguised(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "file"):
        pass  # nothing is written


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe{}", b"[" * 100_000, b"null"])
def test_damaged_facts_count_as_none_with_a_warning(tmp_path, content, caplog):
    model = TrainedModel(tmp_path)
    for name in ("model.json", "progress.json", "versions.json"):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "weights.safetensors").write_bytes(b"x")
    (tmp_path / "last.ckpt").write_bytes(b"x")
    assert (model.is_trained, model.metadata, model.progress, facts_of(tmp_path)) == (False, {}, {}, {})
    assert f"ignoring {tmp_path / 'model.json'}: it is damaged" in caplog.text


def _scores(path):
    Scores({("msp", "id", "clean"): np.arange(40.0), ("msp", "a/b", "attacked"): np.arange(3.0)}).save(path)


def _records(path):
    path.write_text(json.dumps({"dataset": "demo", "value": 0.5}) + "\n")


def _safetensors(path):
    save_weights(path, SmallNet(3, width=8), {"seed": 0})


def _torch_file(path):
    torch.save({"state_dict": SmallNet(3, width=8).state_dict()}, path)


READERS = {
    "scores.npz": (_scores, Scores.load),
    "records.jsonl": (_records, read_records),
    "facts.json": (lambda path: write_json(path, {"a": [1, 2, {"b": "c"}]}), read_json),
    "weights.safetensors": (_safetensors, lambda path: load_weights(path, SmallNet(3, width=8))),
    "weights.pt": (_torch_file, lambda path: load_weights(path, SmallNet(3, width=8))),
}


@pytest.mark.parametrize("count", [40, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", READERS)
def test_damaged_files_raise_named_errors_only(tmp_path, name, count):
    """Truncated, with flipped bits, and with bytes put in."""
    write, read = READERS[name]
    write(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    messages = {}
    for case in range(count):
        random = np.random.default_rng(seed_of(name, case))
        damaged = bytearray(whole)
        if case % 3 == 0:
            del damaged[random.integers(len(whole)) :]
        elif case % 3 == 1:
            for position in random.integers(len(whole), size=random.integers(1, 9)):
                damaged[position] ^= 1 << int(random.integers(8))
        else:
            position = int(random.integers(len(whole)))
            damaged[position:position] = random.bytes(int(random.integers(1, 5000)))
        file = tmp_path / f"{case}-{name}"
        file.write_bytes(damaged)
        try:
            read(Path(file))
        except UserError as error:
            messages[file] = str(error)
        file.unlink()
    assert messages or name == "facts.json"
    assert [message for file, message in messages.items() if str(file) not in message] == []


def test_a_damaged_checkpoint_loads_nothing(tmp_path):
    """A state dict with one tensor of another shape leaves the net as it was."""
    net = SmallNet(3, width=8)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state = {name: torch.zeros_like(tensor) for name, tensor in before.items()}
    save_file({**state, "fc.weight": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="another architecture"):
        load_weights(tmp_path / "other.safetensors", net)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
