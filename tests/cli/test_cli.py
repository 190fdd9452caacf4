"""The command line: any order of arguments, and for a mistake one line on stderr and exit code 2."""

import json
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from aloe_lightning.cli import main as app
from aloe_lightning.cli.main import normalised
from aloe_lightning.errors import UserError
from aloe_lightning.nets import SmallNet
from aloe_lightning.storage.weights import save_weights
from data.fakes import make_root, noise, overrides

ERROR = "aloe_lightning: error: "
KINDS = ("stripes", "ripples", "clouds", "print", "photograph")
TINY = [
    *("objective=original", "net.width=8", "trainer.max_steps=1", "attack.eval.steps=1", "trainer.accelerator=cpu"),
    *("data.num_train=8", "data.num_test=6", "outliers.count=8"),
    *(f"ood.{kind}.count=4" for kind in KINDS),
]


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str


@pytest.fixture
def call(tmp_path, monkeypatch, capsys, no_figures):
    """Calls the command line in this process, in an empty folder, and leaves no trace in the process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["aloe_lightning"])
    root = logging.getLogger()
    handlers, level, threads = root.handlers[:], root.level, torch.get_num_threads()
    torch.set_num_threads(1)
    GlobalHydra.instance().clear()

    def run(*arguments):
        GlobalHydra.instance().clear()
        code = 0
        try:
            app.main([*arguments])
        except SystemExit as end:
            code = end.code
        told = capsys.readouterr()
        return Answer(code, told.out, told.err)

    with patch.dict(os.environ):
        os.environ["ALOE_OUTPUTS"] = str(tmp_path / "outputs")
        os.environ.pop("ALOE_DATA", None)
        yield run
    GlobalHydra.instance().clear()
    torch.set_num_threads(threads)
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def refused(call):
    """Calls the command line and returns its one line of complaint."""

    def run(*arguments):
        answer = call(*arguments)
        assert answer.code == 2, answer
        (line,) = answer.err.splitlines()
        assert line.startswith(ERROR)
        assert line.isprintable(), "no escape codes of a terminal"
        assert "Traceback" not in answer.out + answer.err
        return line.removeprefix(ERROR)

    return run


@pytest.fixture(scope="module")
def sound_root(tmp_path_factory):
    return make_root(tmp_path_factory.mktemp("data"))


@pytest.fixture
def root(sound_root, tmp_path):
    """A data root to break."""
    return shutil.copytree(sound_root, tmp_path / "root")


@pytest.fixture
def cells(monkeypatch):
    """The cells that would be run: (config, folder)."""
    found = []
    monkeypatch.setattr("aloe_lightning.run.run_cell", lambda config, folder: found.append((config, folder)))
    monkeypatch.setattr("aloe_lightning.cli.sweep.require_data", lambda words: None)
    monkeypatch.setattr("aloe_lightning.cli.sweep.missing_cells", lambda words, started: [])
    return found


def on(root, *more):
    """A cell of the paper on a tiny root."""
    small = ("net=small", "net.width=8", "trainer.max_steps=1", "trainer.accelerator=cpu", "attack.eval.steps=1")
    return ["+experiment=cifar10_aloe", *overrides(root), *small, *more]


def cut(path, kept=0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])


# --- data that is not what it should be ---


def test_data_that_is_nowhere(refused):
    line = refused("+experiment=cifar10_aloe", "paths.data=/nowhere")
    assert line.startswith("8 data sets are missing in /nowhere: CIFAR-10 (cifar-10-batches-py/data_batch_1), 300K ")
    names = "cifar10 random_images_300k svhn textures places365 lsun_c lsun_r isun"
    assert f"`python -m aloe_lightning.data prepare {names} --root /nowhere` downloads them" in line
    assert line.endswith(", or set paths.data")


def test_an_incomplete_folder(refused, root):
    (root / "cifar-10-batches-py" / "data_batch_3").unlink()
    line = refused(*on(root))
    assert line.startswith(f"CIFAR-10 is incomplete in {root}, cifar-10-batches-py/data_batch_3 missing: ")


def test_a_truncated_batch(refused, root):
    cut(root / "cifar-10-batches-py" / "data_batch_2")
    assert refused(*on(root)).startswith(f"cannot read {root / 'cifar-10-batches-py' / 'data_batch_2'}: truncated")


def test_a_batch_of_another_sum(refused, root):
    line = refused(*on(root), "paths.verify=true")
    assert line.startswith(f"{root / 'cifar-10-batches-py' / 'test_batch'} is not the official file: MD5 ")
    assert "expected 40351d587109b95175f43aff81a1287e" in line


def test_truncated_outliers(refused, root):
    cut(root / "300K_random_images.npy")
    assert refused(*on(root)).startswith(f"cannot read {root / '300K_random_images.npy'}: truncated")


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (noise(4, 1).astype(np.float32), "holds float32 of shape (4, 32, 32, 3)"),
        (noise(4, 1).transpose(0, 3, 1, 2), "holds uint8 of shape (4, 3, 32, 32)"),
    ],
)
def test_outliers_of_another_type_or_shape(refused, root, array, told):
    np.save(root / "300K_random_images.npy", array)
    line = refused(*on(root))
    assert line.startswith(f"{root / '300K_random_images.npy'} {told}; ")
    assert "uint8 of shape (N, H, W, 3)" in line


def test_an_unreadable_picture(refused, root):
    broken = root / "iSUN" / "001.jpg"
    broken.write_bytes(b"no picture")
    assert refused(*on(root)).startswith(f"cannot read the image {broken} ")


def test_a_missing_folder_of_pictures(refused, root):
    shutil.rmtree(root / "LSUN")
    assert refused(*on(root)).startswith(f"LSUN (crop) is not there: no LSUN/test in {root}: `python")


def test_an_empty_folder_of_pictures(refused, root):
    for picture in (root / "iSUN").iterdir():
        picture.write_text("no picture")
        picture.rename(picture.with_suffix(".txt"))
    line = refused(*on(root))
    assert line.startswith(f"iSUN: no images in {root / 'iSUN'}: remove it, then `python")


def test_a_folder_with_fewer_pictures_than_the_set_has(refused, root):
    line = refused(*on(root), "+ood.isun.verify=true")
    assert line.startswith(f"iSUN in {root}: 4 images where the official set has 8,925; ")


def test_outliers_without_a_path(refused, root):
    assert "outliers.path" in refused(*on(root), "outliers=folder")


# --- settings that are not what they should be ---


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["objective=alo"], ["objective/alo", "original", "did you mean 'aloe'?"]),
        (["detector=mps"], ["detector/mps", "odin", "did you mean 'msp'?"]),
        (["detector=[msp,odn]"], ["detector/odn"]),
        (["data=cifar11"], ["data/cifar11", "demo", "did you mean 'cifar10'?"]),
        (["+experiment=cifar10_alo"], ["experiment/cifar10_alo", "did you mean 'cifar10_aloe'?"]),
        (["epsilon=-1"], ["epsilon: ", "greater than or equal to 0", "(got -1)"]),
        (["epsilon=8/255"], ["epsilon: ", "'8/255'", "1/255"]),
        (["ood.stripes.kind=foo"], ["ood.stripes.kind: ", "'foo'", "'stripes'"]),
        (["+ood.mine=5"], ["ood.mine: must be a group of keys", "5"]),
        (["ood.stripes=null"], ["ood.stripes: must be"]),
        (["net=null"], ["onfig group override"]),
        (["attack.train.steps=2.5"], ["attack.train.steps", "2.5"]),
        (["paths.outputs=/dev/null/here"], ["/dev/null"]),
        (["launcher=ray"], ["aloe-lightning[ray]"]),
        (["epsilo=1"], ["'epsilo'", "did you mean 'epsilon'?"]),
        (["optim.momentun=0.5"], ["optim.momentun", "did you mean 'momentum'?"]),
        (["+epsilo=1"], ["epsilo is unknown, did you mean 'epsilon'?"]),
        (["+optim.momentun=0.5"], ["optim.momentun is unknown, did you mean 'momentum'?"]),
        (["+experimnt=cifar10"], ["experimnt", "did you mean 'experiment'?"]),
        (["trainer.max_steps=[1"], ["[1"]),
        (["data.num_train=${nowhere}"], ["nowhere"]),
        (
            ["+epsilo=1", "seed=-1", "optim.lr=fast"],
            ["epsilo is unknown", "seed: ", "(got -1)", "optim.lr: ", "'fast'"],
        ),
    ],
)
def test_a_setting_that_cannot_be(refused, cells, arguments, parts):
    line = refused(*arguments)
    for part in parts:
        assert part in line
    assert cells == []


def test_a_typo_in_an_experiment_file_of_ones_own(refused, cells, tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    text = "# @package _global_\ndefaults: [cifar10]\ntrainer: {max_epoch: 3}\n"
    (tmp_path / "mine" / "experiment" / "my_cell.yaml").write_text(text)
    line = refused("+experiment=my_cell", "--config-dir", str(tmp_path / "mine"))
    assert line == "config: trainer.max_epoch is unknown, did you mean 'max_epochs'?"
    assert cells == []


def test_a_mistake_in_one_cell_of_a_sweep(call):
    answer = call("objective=original", "-m", "epsilon=-1,-2")
    assert answer.code == 2
    (line,) = [line for line in answer.err.splitlines() if line.startswith("aloe_lightning: error:")]
    assert line.startswith(f"{ERROR}config: ")
    assert "(got -1)" in line
    assert "Traceback" not in answer.err


# --- weights that are not what they should be ---


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return type(self.path).touch, (self.path,)


def test_weights_that_are_nowhere(refused, tmp_path):
    line = refused(*TINY, "checkpoint=nowhere/weights.pt")
    assert line.startswith(f"no checkpoint at {tmp_path / 'nowhere' / 'weights.pt'}, which does not exist: ")
    assert "checkpoint=" in line


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_weights_of_another_architecture(refused, tmp_path, name):
    state = SmallNet(10, width=16)
    if name == "w.pt":
        torch.save({"state_dict": state.state_dict()}, tmp_path / name)
    else:
        save_weights(tmp_path / name, state, {})
    line = refused(*TINY, f"checkpoint={tmp_path / name}")
    assert line.startswith(f"{tmp_path / name} is of another architecture than net=SmallNet: ")
    assert "of another shape" in line


def test_a_tensor_too_few(refused, tmp_path):
    state = SmallNet(10, width=8).state_dict()
    (first, *_) = state
    del state[first]
    torch.save(state, tmp_path / "w.pt")
    assert refused(*TINY, f"checkpoint={tmp_path / 'w.pt'}").endswith(f": 1 missing ({first})")


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04garbage", b"\x80\x02}q\x00."])
def test_garbage_for_weights(refused, tmp_path, content):
    (tmp_path / "w.pt").write_bytes(content)
    assert str(tmp_path / "w.pt") in refused(*TINY, f"checkpoint={tmp_path / 'w.pt'}")


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_truncated_weights(refused, tmp_path, name):
    if name == "w.pt":
        torch.save(SmallNet(10, width=8).state_dict(), tmp_path / name)
    else:
        save_weights(tmp_path / name, SmallNet(10, width=8), {})
    cut(tmp_path / name)
    line = refused(*TINY, f"checkpoint={tmp_path / name}")
    assert line.startswith(f"cannot read the checkpoint {tmp_path / name}")


@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_weights_with_code_in_them_are_refused_and_not_run(refused, tmp_path, form):
    content = {"state_dict": Harmful(tmp_path / "harm")}
    file = tmp_path / "w.pt"
    if form == "pickle":
        file.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, file)
    line = refused(*TINY, f"checkpoint={file}")
    assert line.startswith(f"cannot read the checkpoint {file}: ")
    assert "can still be loaded" not in line, "no advice to run the code after all"
    assert not (tmp_path / "harm").exists()
    torch.load(file, weights_only=False) if form == "torch" else pickle.loads(file.read_bytes())
    assert (tmp_path / "harm").exists(), "the file of this test is harmless: it shows nothing"


# --- what is no mistake of the user's ---


def test_debug_shows_the_traceback(call):
    with pytest.raises(UserError, match="/nowhere"):
        call("+experiment=cifar10_aloe", "paths.data=/nowhere", "debug=true")


def test_an_error_of_ours_is_not_hidden(call, monkeypatch):
    monkeypatch.setattr("aloe_lightning.run.run_cell", lambda config, folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        call("-m", "objective=oe")


def test_an_interruption_is_told_and_ends_with_130(call, monkeypatch):
    def interrupted(config, folder):
        raise KeyboardInterrupt

    monkeypatch.setattr("aloe_lightning.run.run_cell", interrupted)
    answer = call("objective=oe")
    assert answer.code == 130
    assert answer.err.splitlines() == ["aloe_lightning: interrupted"]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["trainer.accelerator=foo"], ["config: trainer: "]),
        (["trainer.accelerator=cpu", "trainer.devices=0"], ["config: trainer: "]),
    ],
)
def test_a_setting_that_only_the_code_can_refuse(refused, arguments, parts):
    line = refused(*TINY, *arguments)
    for part in parts:
        assert part in line


def test_a_sweep_refuses_several_processes_a_job(call):
    answer = call("-m", "objective=oe,aloe", "trainer.devices=2")
    assert answer.code == 2
    assert "a sweep gives each job one device" in answer.err


def test_values_are_used_as_they_were_understood(call, cells):
    settings = ["data.augment=no", "objective.joint_forward=off", "evaluation.max_ood=1e1", "batch.inliers=8.0"]
    assert call(*settings, "epsilon='2'").code == 0
    ((config, _),) = cells
    understood = config["data"]["augment"], config["objective"]["joint_forward"], config["epsilon"]
    assert understood == (False, False, 2)
    assert (config["evaluation"]["max_ood"], config["batch"]["inliers"]) == (10, 8)


# --- runs ---


def test_without_arguments_the_demo_runs_all_five_objectives(call, cells, tmp_path):
    assert call().code == 0
    names = [config["objective"]["name"] for config, _ in cells]
    assert names == ["original", "oe", "adv", "aoe", "aloe"]
    assert all(
        config["cell"].startswith(f"{name}-train3-eval3-seed0-") for name, (config, _) in zip(names, cells, strict=True)
    )
    assert {config["data"]["name"] for config, _ in cells} == {"demo"}
    assert [folder for _, folder in cells] == [tmp_path / "outputs" / "demo" / config["cell"] for config, _ in cells]


def test_a_sweep_may_be_asked_for_amid_the_overrides(call, cells, tmp_path):
    assert call("+experiment=cifar10_aloe", "-m", "epsilon=1,2").code == 0
    assert [(config["epsilon"], config["data"]["name"]) for config, _ in cells] == [(1, "cifar10"), (2, "cifar10")]
    assert [folder for _, folder in cells] == [tmp_path / "outputs" / "cifar10" / config["cell"] for config, _ in cells]
    names = [config["cell"].rpartition("-")[0] for config, _ in cells]
    assert names == ["aloe-train1-eval1-seed0", "aloe-train2-eval2-seed0"]


def test_a_single_cell_has_the_same_folder_as_in_a_sweep(call, cells, tmp_path):
    assert call("+experiment=cifar10_aloe", "epsilon=2").code == 0
    ((config, folder),) = cells
    assert folder == tmp_path / "outputs" / "cifar10" / config["cell"]
    assert config["cell"].startswith("aloe-train2-eval2-seed0-")


@pytest.mark.parametrize(("classes", "objective"), [(10, "aloe"), (100, "original")])
def test_a_cell_of_the_paper_runs_on_the_official_layout(call, sound_root, tmp_path, classes, objective):
    words = [f"+experiment=cifar{classes}", f"objective={objective}", *on(sound_root)[1:]]
    answer = call(*words, "trainer.log_every_n_steps=1")
    assert answer.code == 0, answer
    (folder,) = (tmp_path / "outputs" / f"cifar{classes}").glob(f"{objective}-train1-eval1-seed0-*")
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    assert {(r["dataset"], r["objective"], r["num_id"]) for r in records} == {(f"cifar{classes}", objective, 6)}
    sets = {"svhn", "textures", "places365", "lsun_c", "lsun_r", "isun"}
    assert {(r["ood"], r["num_ood"]) for r in records if r["ood"]} == {(name, 4) for name in sets}
    metrics = {"fpr95", "detection_error", "auroc", "aupr_in", "aupr_out", "tied_pairs"}
    keys = {(r["detector"], r["ood"], r["side"], r["metric"]) for r in records if r["ood"]}
    assert keys == {
        (detector, name, side, metric)
        for detector in ("msp", "odin")
        for name in sets
        for side in ("none", "id", "ood", "both")
        for metric in metrics
    }
    of_the_classifier = [(r["detector"], r["side"], r["metric"]) for r in records if not r["ood"]]
    assert sorted(of_the_classifier) == [
        *(("", "id", "accuracy"), ("", "none", "accuracy")),
        *(("msp", "id", "one_minus_fpr95"), ("odin", "id", "one_minus_fpr95")),
    ]
    assert len(records) == len(keys) + len(of_the_classifier)
    weights = load_file(Path(json.loads((folder / "versions.json").read_text())["model"]) / "weights.safetensors")
    assert {len(t) for name, t in weights.items() if name == "fc.weight"} == {classes}


# --- the order of arguments ---


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], []),
        (["+experiment=x", "-m", "epsilon=1,2"], ["-m", "+experiment=x", "epsilon=1,2"]),
        (["+sweep=methods", "seed=1"], ["--multirun", "+sweep=methods", "seed=1"]),
        (["epsilon=-1", "~batch", "--multirun", "seed=1"], ["--multirun", "epsilon=-1", "~batch", "seed=1"]),
        (["a=1", "--config-dir", "d", "b=2"], ["--config-dir", "d", "a=1", "b=2"]),
        (["a=1", "--config-dir=d", "b=2"], ["--config-dir=d", "a=1", "b=2"]),
        (["a=1", "-c", "job", "b=2", "--resolve"], ["-c", "job", "--resolve", "a=1", "b=2"]),
        (["a=1", "--info", "b=2"], ["--info", "a=1", "b=2"]),
        (["--info", "defaults", "a=1"], ["--info", "defaults", "a=1"]),
        (["a=1", "--cfg"], ["--cfg", "a=1"]),
    ],
)
def test_flags_come_first_with_their_values_and_overrides_after(arguments, expected):
    assert normalised(arguments) == expected


def test_only_a_further_process_of_lightning_is_given_the_folder_of_the_run(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(UserError, match=r"set paths\.outputs= or study="):
        normalised(["hydra.run.dir=somewhere"])
    monkeypatch.setenv("LOCAL_RANK", "1")  # as Lightning sets it
    assert normalised(["hydra.run.dir=somewhere"]) == ["hydra.run.dir=somewhere"]


flags = st.sampled_from([["-m"], ["--multirun"], ["--config-dir", "d"], ["-cn", "n"], ["--cfg=job"], ["--help"]])
words = st.sampled_from([["epsilon=1,2"], ["+experiment=x"], ["~batch"], ["seed=-1"], ["objective=oe"]])


@settings(deadline=None)
@given(st.lists(flags | words, max_size=8))
def test_flags_and_overrides_keep_their_own_order(chunks):
    expected = [word for chunk in chunks if chunk[0].startswith("-") for word in chunk]
    expected += [word for chunk in chunks if not chunk[0].startswith("-") for word in chunk]
    found = normalised([word for chunk in chunks for word in chunk])
    assert found == expected
    assert normalised(found) == found


# --- as a user types it ---


def test_the_literal_command_ends_with_2_and_one_line(tmp_path):
    command = [sys.executable, "-m", "aloe_lightning", "+experiment=cifar10_aloe", "paths.data=/nowhere"]
    environment = {**os.environ, "ALOE_OUTPUTS": str(tmp_path / "outputs"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{ERROR}8 data sets are missing in /nowhere: CIFAR-10 (cifar-10-batches-py/data_batch_1), ")
    assert done.stdout == ""


def test_a_home_folder_in_a_value_is_expanded_for_hydras_grammar_has_none(monkeypatch):
    monkeypatch.setenv("HOME", "/home/she")
    assert normalised(["+ood.mine=~/pictures", "data.train=a~/b", "-m"]) == [
        *("-m", "+ood.mine=/home/she/pictures", "data.train='a~/b'")
    ]


def test_an_interrupted_training_ends_with_130_and_a_word(call, monkeypatch):
    def interrupt(self, batch, index):
        raise KeyboardInterrupt

    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr("aloe_lightning.objectives.Original.training_step", interrupt)
    answer = call(*TINY)
    assert answer.code == 130
    assert answer.err.splitlines()[-1] == "aloe_lightning: interrupted"
    assert signal.getsignal(signal.SIGINT) is handler, "Lightning ignores the signal for good"


def test_a_killed_job_of_a_launcher_is_told_in_a_line(call):
    with patch("aloe_lightning.cli.main.job", side_effect=BrokenExecutor("a worker was killed")):
        answer = call("-m", "+sweep=methods")
    assert answer.code == 1
    assert "the same command computes the rest" in answer.err
