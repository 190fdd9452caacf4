"""Fixtures: golden outputs of the authors' code, and a net small enough for properties."""

import gc
import os
import pickle
import shutil
import sys
from pathlib import Path

# Tensors of tests are small: a second thread costs more than it saves, and each core has a process of pytest-xdist.
# Before torch is imported, and for the processes that tests start as well.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
import torch
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from aloe_lightning.cli.composition import Composer
from aloe_lightning.cli.main import main
from aloe_lightning.kernels import compiler
from aloe_lightning.nets import DenseNet, SmallNet
from aloe_lightning.report.figures.files import save_figure
from aloe_lightning.report.figures.scores import score_figure
from aloe_lightning.runtime.processor import processor_flags
from aloe_lightning.storage.cache import content_hash

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory, request):
    """A cache of the tests' own: nothing of a user's is read or written. The processes of pytest-xdist share it.

    Compiled kernels are kept in pytest's own cache for the next session (their name is a hash of source, PyTorch and
    processor; the folder's one of the command that compiles them): `pytest --cache-clear` compiles anew.
    """
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALOE_CACHE", str(folder / "cache"))
        kept = request.config.cache.mkdir(
            f"kernels-{content_hash(Path(compiler.__file__).read_text(), os.environ.get('CXX'))}"
        )
        _copy_kernels(kept, folder / "cache")
        yield
        _copy_kernels(folder / "cache", kept)


def _copy_kernels(source, target):
    target.mkdir(exist_ok=True)
    for file in source.glob("kernels-*.so"):
        if not (target / file.name).exists():
            part = target / f"{os.getpid()}.part"
            shutil.copyfile(file, part)
            part.replace(target / file.name)


@pytest.fixture(scope="session", autouse=True)
def parsed_once():
    """Parse each file of conf/ once: Hydra does so for every composition, which takes a fifth of a short command."""
    load, parsed = OmegaConf.load, {}

    def load_once(file):
        name = getattr(file, "name", file)
        key = str(name), os.stat(name).st_mtime_ns
        if key not in parsed:
            parsed[key] = pickle.dumps(load(file))  # four times as fast as deepcopy
        return pickle.loads(parsed[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OmegaConf, "load", staticmethod(load_once))
        yield


@pytest.fixture(scope="session", autouse=True)
def composed_once():
    """Compose each config of conf/ alone once in a session: the same words are composed a hundred times.

    A search path of a test's own is composed anew each time.
    """
    load, merge, known = ConfigLoaderImpl.load_configuration, Composer._merge, {}

    def remembered(key, sources, words, compose):
        if any("searchpath" in word for word in words) or any(source.path.startswith("file://") for source in sources):
            return compose()
        if key not in known:
            known[key] = pickle.dumps(compose())
        return pickle.loads(known[key])

    def load_once(self, config_name, overrides, *rest, **named):
        sources = self.config_search_path.get_path()
        key = str(sources), config_name, *overrides, str(rest), str(named)
        config = remembered(key, sources, overrides, lambda: load(self, config_name, overrides, *rest, **named))
        config.hydra.runtime.cwd = os.getcwd()
        return config

    def merge_once(self, groups):
        sources, words = self.files.get_sources(), [str(override.input_line) for override in groups]
        key = str([source.path for source in sources]), self.config_name, *words
        return remembered(key, sources, words, lambda: merge(self, groups))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConfigLoaderImpl, "load_configuration", load_once)
        patch.setattr(Composer, "_merge", merge_once)
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
    """Draw no figures beside tables: it takes long, and tests/report/ looks at them."""
    monkeypatch.setattr("aloe_lightning.report.reports.score_figure", lambda *_: None)
    monkeypatch.setattr("aloe_lightning.report.reports.save_figure", lambda *_: [])


@pytest.fixture
def figures(monkeypatch, no_figures):
    """Draw figures although the test uses `command`."""
    monkeypatch.setattr("aloe_lightning.report.reports.score_figure", score_figure)
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
