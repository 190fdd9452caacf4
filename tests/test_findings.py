"""The paper's finding, on the embedded demo and on real images: minutes each, `make test-all`."""

import csv
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def run(folder, *arguments):
    """Run the command line in a process of its own; the mean AUROC of each method, clean (0) and attacked."""
    command = [sys.executable, "-m", "aloe_lightning", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=3600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (table,) = (folder / "outputs").glob("*/tables.csv")
    rows = [r for r in csv.DictReader(table.read_text().splitlines()) if r["metric"] == "auroc"]
    return {(r["method"], float(r["epsilon"]) > 0): float(r["value"]) for r in rows}


def test_the_demo_shows_the_collapse_of_the_classics_and_that_aloe_holds(tmp_path):
    auroc = run(tmp_path)
    assert auroc["ALOE", True] - auroc["OE", True] >= 20
    assert auroc["MSP", False] - auroc["MSP", True] >= 30
    assert auroc["OE", False] - auroc["OE", True] >= 30


def test_aloe_beats_oe_under_attack_on_real_images(tmp_path, shared):
    """Two cells of the README's table: CIFAR-10 against real textures and scenes. After far fewer steps OE holds."""
    data = tmp_path / "data"
    sets = ["cifar10", "outliers", "dtd", "places365", "crop", "resize"]
    unpack = [sys.executable, str(shared / "data" / "unpack.py"), str(data), *sets]
    subprocess.run(unpack, check=True, capture_output=True, timeout=600)
    auroc = run(
        tmp_path,
        *("-m", "+experiment=cifar10", "+scale=small", "trainer.max_steps=1400", "evaluation.max_ood=600"),
        *("objective=oe,aloe", f"paths.data={data}", "paths.verify=false"),
        *("outliers=npy", f"outliers.path={data}/outliers/tiny_imagenet_32x32.npy", "ood=[textures,places365]"),
        *(f"+ood.crop={data}/standin_lsun_crop", f"+ood.resize={data}/standin_lsun_resize"),
    )
    assert auroc["OE", False] - auroc["OE", True] >= 30
    # 19.6 in float32 on a processor without AVX-512, more in bfloat16: so short a training depends on its rounding.
    assert auroc["ALOE", True] - auroc["OE", True] >= 15
