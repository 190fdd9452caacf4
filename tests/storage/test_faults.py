"""A full disk and damaged files: a named error or a warning, never a torn file, and nothing is lost."""

import subprocess

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from aloe_lightning.errors import UserError
from aloe_lightning.evaluation.scores import Scores
from aloe_lightning.nets import SmallNet
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


def test_a_damaged_checkpoint_loads_nothing(tmp_path):
    """A state dict with one tensor of another shape leaves the net as it was."""
    net = SmallNet(3, width=8)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state = {name: torch.zeros_like(tensor) for name, tensor in before.items()}
    save_file({**state, "fc.weight": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="another architecture"):
        load_weights(tmp_path / "other.safetensors", net)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_a_flipped_bit_in_a_stored_net_is_noticed_before_it_is_evaluated(command, capsys):
    """A file of safetensors has no checksum of its own."""
    outputs = command("objective=oe", *TINY)
    (weights,), (records,) = outputs.glob("models/*/weights.safetensors"), outputs.glob("demo/*/records.jsonl")
    records.unlink()
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(content)
    with pytest.raises(SystemExit):
        command("objective=oe", *TINY)
    assert f"{weights} is damaged or replaced: its SHA-256 is not that of model.json" in capsys.readouterr().err
    assert not records.exists()
