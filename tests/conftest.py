"""Fixtures: golden outputs of the authors' code, and a net small enough for properties."""

import copy
import gc
import os
import sys
from pathlib import Path

# Tensors of tests are small: a second thread costs more than it saves, and each core has a process of pytest-xdist.
# Before torch is imported, and for the processes that tests start as well.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from aloe_lightning.cli.main import main
from aloe_lightning.nets import DenseNet, SmallNet
from aloe_lightning.report.figures.files import save_figure
from aloe_lightning.runtime.processor import processor_flags

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """A cache of the tests' own: nothing of a user's is read or written. The processes of pytest-xdist share it."""
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALOE_CACHE", str(folder / "cache"))
        yield


@pytest.fixture(scope="session", autouse=True)
def parsed_once():
    """Parse each file of conf/ once: Hydra does so for every composition, which takes a fifth of a short command."""
    load, parsed = OmegaConf.load, {}

    def load_once(file):
        name = getattr(file, "name", file)
        key = str(name), os.stat(name).st_mtime_ns
        if key not in parsed:
            parsed[key] = load(file)
        return copy.deepcopy(parsed[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OmegaConf, "load", staticmethod(load_once))
        yield


@pytest.fixture(scope="session")
def shared():
    """The folder beside the repository with golden outputs and real images."""
    if not (SHARED / "golden").is_dir():
        pytest.skip(f"no golden outputs or real images at {SHARED}")
    return SHARED


@pytest.fixture(scope="session", params=[4, pytest.param(1, marks=pytest.mark.slow)], ids=["10 images", "40 images"])
def reference(shared, request):
    """Golden outputs of the authors' code on 40 + 40 real images; on every fourth of them where time counts."""
    with np.load(shared / "golden" / "reference_cifar10.npz", allow_pickle=False) as arrays:
        return {
            key: arrays[key][:: request.param] if key.startswith(("id_", "ood_")) else arrays[key]
            for key in arrays.files
        }


@pytest.fixture(scope="session")
def golden_images(reference):
    return {
        side: torch.from_numpy(reference[f"{side}_images"]).permute(0, 3, 1, 2).float() / 255 for side in ("id", "ood")
    }


@pytest.fixture(scope="session")
def golden_net(shared):
    """The DenseNet-BC-100-12 behind the golden outputs, in eval mode."""
    with np.load(shared / "golden" / "densenet_bc100_cifar10.npz", allow_pickle=False) as arrays:
        # Layer by layer, in the authors' order of operations: the fused net rounds otherwise.
        net = DenseNet(10, mean=arrays["__mean__"].tolist(), std=arrays["__std__"].tolist(), fused=False)
        net.load_state_dict({key: torch.from_numpy(arrays[key]) for key in arrays.files if not key.startswith("__")})
    return net.eval()


@pytest.fixture(scope="session")
def same_processor():
    """Return whether this processor adds as the one of the golden outputs did, which had AVX-512.

    Another adds in another order, and the gradient of a well-trained net is almost zero in many pixels, so that its
    sign turns there: float64 agrees with the golden pixels on 95 %. The arithmetic of the attack itself is held to a
    slow loop on any processor (tests/attacks/test_linf.py).
    """
    return "avx512f" in processor_flags().split()


@pytest.fixture(scope="session")
def pixel_agreement(same_processor):
    """The least share of pixels on which an attack on the golden net equals the authors'."""
    return 0.99 if same_processor else 0.75


def pytest_collection_finish():
    """Let the garbage collector pass over what was imported: it takes a tenth of the time of the whole suite."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def no_figures(monkeypatch):
    """Write no figures beside tables: drawing takes long, and tests/report/ looks at them."""
    monkeypatch.setattr("aloe_lightning.report.reports.save_figure", lambda *_: [])


@pytest.fixture
def figures(monkeypatch, no_figures):
    """Write figures although the test uses `command`."""
    monkeypatch.setattr("aloe_lightning.report.reports.save_figure", save_figure)


@pytest.fixture
def command(monkeypatch, tmp_path, no_figures):
    """Run the command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(sys, "argv", ["aloe_lightning"])

    def run(*arguments):
        GlobalHydra.instance().clear()
        main(list(arguments))
        return tmp_path / "outputs"

    yield run
    GlobalHydra.instance().clear()


@pytest.fixture
def small_net():
    torch.manual_seed(0)
    return SmallNet(10, width=8).eval()


@pytest.fixture
def images():
    return torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
