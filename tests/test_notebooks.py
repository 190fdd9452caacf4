"""The notebooks run from top to bottom, and an attack lowers every AUROC that they print."""

import re
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).resolve().parents[1] / "examples" / "notebooks"

pytestmark = pytest.mark.slow


def printed(name, folder, monkeypatch):
    """The text that a notebook prints, run in an empty folder."""
    nbclient = pytest.importorskip("nbclient", reason="the extra [dev] installs nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("TQDM_DISABLE", "1")
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}})
    client.execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def aurocs(text):
    return [tuple(map(float, pair)) for pair in re.findall(r"AUROC ([\d.]+) clean, ([\d.]+) attacked", text)]


def test_a_torchvision_net_is_attacked(tmp_path, monkeypatch):
    pairs = aurocs(printed("attack_torchvision", tmp_path, monkeypatch))
    assert len(pairs) == 3
    assert all(0 <= attacked < clean <= 1 for clean, attacked in pairs)


def test_aloe_trains_from_ordinary_loaders_in_at_most_15_lines(tmp_path, monkeypatch):
    text = printed("aloe_in_your_trainer", tmp_path, monkeypatch)
    assert "30 steps, loss" in text
    ((clean, attacked),) = aurocs(text)
    assert 0 <= attacked < clean <= 1
    nbformat = pytest.importorskip("nbformat")
    cells = nbformat.read(NOTEBOOKS / "aloe_in_your_trainer.ipynb", as_version=4).cells
    (training,) = (cell.source for cell in cells if cell.cell_type == "code" and "Trainer(" in cell.source)
    assert len([line for line in training.splitlines() if line.strip()]) <= 15


def test_custom_photos_are_checked_trained_attacked_and_tabulated(tmp_path, monkeypatch):
    text = printed("custom_photos", tmp_path, monkeypatch)
    assert "120" in text  # images that `data check` counts
    rows = [line.split("|")[2:-1] for line in text.splitlines() if line.startswith("| ALOE")]
    numbers = [[float(cell.strip(" *")) for cell in row] for row in rows]
    # Detection with MSP and ODIN (three metrics, clean and attacked), rejected images, accuracy.
    assert [len(row) for row in numbers] == [6, 6, 1, 1, 2]
    assert all(attacked <= clean for *_, clean, _, _, attacked in numbers[:2])
