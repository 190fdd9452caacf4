"""A folder that cannot be written is named before the first step of a training."""

import subprocess

import pytest

from test_end_to_end import TINY


@pytest.fixture
def read_only(tmp_path):
    """A file system that cannot be written, not even by root."""
    folder = tmp_path / "read_only"
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no permission to mount a tmpfs")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize("place", ["outputs", "models"])
def test_a_folder_that_cannot_be_written_is_named_before_the_training(read_only, command, tmp_path, capsys, place):
    outputs = tmp_path / "outputs"
    words = ["objective=oe", *TINY, f"paths.outputs={outputs}"]
    if place == "outputs":
        words[-1] = f"paths.outputs={read_only / 'outputs'}"
    elif place == "models":
        outputs.mkdir()
        (outputs / "models").symlink_to(read_only)
    with pytest.raises(SystemExit) as end:
        command(*words)
    printed = capsys.readouterr().err
    assert end.value.code == 2, printed
    assert str(read_only if place != "models" else outputs / "models") in printed
    assert "Read-only file system" in printed
    assert "training\n" not in printed
    assert "Traceback" not in printed
