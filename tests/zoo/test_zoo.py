"""The nets that are installed with the package: whole, as their cards say, and refused where they are not."""

import hashlib
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from aloe_lightning import zoo
from aloe_lightning.config.build import build_data, build_net
from aloe_lightning.config.validation import validated
from aloe_lightning.data import TestFolder
from aloe_lightning.errors import UserError
from aloe_lightning.evaluation.records import read_records
from aloe_lightning.nets import SmallNet
from aloe_lightning.report.leaderboard import ENTRY, Entry
from aloe_lightning.storage import zoo as files
from aloe_lightning.storage.cells import file_digest
from aloe_lightning.storage.weights import load_weights, save_weights
from aloe_lightning.zoo.__main__ import main
from aloe_lightning.zoo.page import BEGIN, END, markdown
from aloe_lightning.zoo.sample import check_sample, sample_scores
from composing import changed

NAMES = zoo.list()
NAME = NAMES[0]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A zoo of one net, in a folder that a test may damage."""
    for suffix in (".json", ".safetensors"):
        shutil.copy(files.FOLDER / f"{NAME}{suffix}", tmp_path)
    monkeypatch.setattr(files, "FOLDER", tmp_path)
    return tmp_path / f"{NAME}.safetensors"


@pytest.mark.parametrize("name", NAMES)
def test_a_net_reproduces_the_scores_of_its_card(name):
    net = zoo.load(name)
    assert check_sample(net, zoo.card(name)["sample"]) <= 1e-4
    assert not net.training


@pytest.mark.parametrize("name", NAMES)
def test_a_card_describes_a_finished_training_and_its_evaluation(name):
    card, file = zoo.card(name), files.FOLDER / f"{name}.safetensors"
    assert card["name"] == name
    assert file.stat().st_size < 3_000_000
    assert card["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest() == file_digest(f"zoo:{name}")
    assert card["auroc_change"] <= 0.0005
    assert set(card["evaluation"]) == {"paper", "strong"}
    training = card["training"]
    per_epoch = -(-training["images"] // training["batch"]["inliers"])
    assert training["epochs"] == pytest.approx(training["steps"] / per_epoch, rel=0.01)
    for numbers in card["evaluation"].values():
        shown = [*numbers["accuracy"].values()]
        for conditions in numbers["detectors"].values():
            shown += [number for metrics in conditions.values() for number in metrics.values()]
        assert all(0 <= low <= value <= high <= 1 for value, low, high in shown)


def test_a_wrong_byte_is_refused(copy):
    content = bytearray(copy.read_bytes())
    content[-1] ^= 1
    copy.write_bytes(content)
    for use in (lambda: zoo.load(NAME), lambda: load_weights(f"zoo:{NAME}", SmallNet(10))):
        with pytest.raises(UserError, match="is damaged: its SHA-256 is"):
            use()
    assert main(["check"]) == 2
    copy.unlink()
    with pytest.raises(UserError, match="its SHA-256 is missing"):
        zoo.load(NAME)


def test_other_weights_than_the_cards_are_noticed_by_their_scores(copy):
    net = zoo.load(NAME)
    with torch.no_grad():
        net.fc.bias[0] += 0.1
    with pytest.raises(UserError, match=r"differ from the card's by 0\.0"):
        check_sample(net, zoo.card(NAME)["sample"])
    stated = sample_scores(net)
    with pytest.raises(UserError, match="embedded pictures differ"):
        check_sample(net, {**stated, "pixels": "0" * 64})


def test_an_unknown_name_is_answered_with_the_nearest(capsys):
    wrong = NAME[:-1]
    with pytest.raises(UserError, match=f"no net '{wrong}' in the zoo, did you mean '{NAME}'"):
        zoo.load(wrong)
    assert main(["card", wrong]) == 2
    assert f"did you mean {NAME!r}" in capsys.readouterr().err
    with pytest.raises(UserError, match=f"checkpoint: no net '{wrong}' in the zoo, did you mean '{NAME}'"):
        validated(changed((), f"checkpoint=zoo:{wrong}"))
    demo = "zoo:demo-aloe-eps3-small"
    assert validated(changed((), f"checkpoint={demo}"))["checkpoint"] == demo


def test_a_net_is_not_recorded_under_another_objective_or_budget():
    demo = "checkpoint=zoo:demo-aloe-eps3-small"
    with pytest.raises(UserError, match="was trained with objective=aloe, not oe: add objective=aloe"):
        validated(changed(("objective=oe",), demo))
    with pytest.raises(UserError, match=r"was trained with train_epsilon=3(\.0)?, not 1(\.0)?: add train_epsilon=3"):
        validated(changed(("epsilon=1",), demo))
    assert validated(changed(("eval_epsilon=1",), demo))["attack"]["eval"]["epsilon"] == 1
    with pytest.raises(UserError, match="was trained with data=cifar10, not demo: add data=cifar10"):
        validated(changed(("train_epsilon=1",), "checkpoint=zoo:cifar10-aloe-eps1-small"))
    with pytest.raises(UserError, match="was trained with objective=oe, not aloe"):
        validated(changed(("+experiment=cifar10_aloe", "net=small"), "checkpoint=zoo:cifar10-oe-small"))


def test_a_checkpoint_of_the_zoo_is_the_file_of_the_net():
    net = SmallNet(**{key: value for key, value in zoo.card(NAME)["net"].items() if key != "_target_"})
    load_weights(f"zoo:{NAME}", net)
    loaded = zoo.load(NAME).state_dict()
    assert all(torch.equal(tensor, loaded[key]) for key, tensor in net.state_dict().items())


def test_a_net_of_the_zoo_keeps_its_normalisation(tmp_path):
    config = validated(changed((), "checkpoint=zoo:cifar10-oe-small", "data.name=cifar10", "objective.name=oe"))
    with pytest.raises(UserError, match=r"was trained with mean \[0\.49.*the data state \(0\.4"):
        build_net(config, build_data(config, uses_outliers=False).inliers)
    net = build_net(config, TestFolder(test=str(tmp_path)))  # which states none
    card = zoo.card("cifar10-oe-small")["net"]
    assert net.normalize.mean.flatten().tolist() == pytest.approx(card["mean"])
    assert net.normalize.std.flatten().tolist() == pytest.approx(card["std"])
    assert net.fc.out_features == 10


def test_records_and_entry_state_the_training_of_the_card(command):
    words = ("checkpoint=zoo:demo-aloe-eps3-small", "data.num_test=20", "evaluation.max_ood=10", "outliers.name=other")
    outputs = command(*words, "eval_epsilon=1", "attack=strong", "attack.eval.preset=quick", "attack.eval.steps=1")
    (file,) = (outputs / "demo").glob("*/records.jsonl")
    assert {(record.outliers, record.train_epsilon) for record in read_records(file)} == {("demo", 3.0)}
    assert Entry.read(file.parent / ENTRY).net == "ALOE at epsilon 3, small, demo, seed 0"


def test_the_command_lists_and_checks_every_net(capsys):
    assert main(["list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == ["net", *NAMES]
    assert main(["check"]) == 0
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == NAMES


@pytest.mark.parametrize("page", ["docs/zoo.md", "README.md"])
def test_the_python_of_the_pages_runs(page, capsys):
    (text,) = re.findall(r"```python\n(from aloe_lightning import zoo\n.*?)```", (ROOT / page).read_text(), re.DOTALL)
    names = {}
    exec(text, names)
    name = re.search(r'zoo.load\("(.*?)"\)', text)[1]
    printed = f"{NAMES} {zoo.card(name)['training']}\n" if "print" in text else ""
    assert capsys.readouterr().out == printed
    state = zoo.load(name).state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in names["net"].state_dict().items())


@pytest.mark.parametrize("page", ["README.md", "docs/zoo.md"])
def test_the_table_of_a_page_is_that_of_the_cards(page):
    assert (ROOT / page).read_text().partition(f"{BEGIN}\n")[2].partition(f"\n{END}")[0] == markdown()


def test_a_page_is_written_with_the_numbers_of_the_cards(tmp_path):
    auroc = 100 * zoo.card(NAME)["evaluation"]["strong"]["detectors"]["msp"]["attacked"]["auroc"][0]
    assert main(["page", str(tmp_path / "zoo.html"), str(tmp_path / "zoo.md")]) == 0
    for suffix in ("html", "md"):
        assert f"{auroc:.2f}" in (tmp_path / f"zoo.{suffix}").read_text()
    (tmp_path / "other.md").write_text("# No markers\n")
    assert main(["page", str(tmp_path / "other.md")]) == 2
    assert (tmp_path / "other.md").read_text() == "# No markers\n"


@pytest.mark.slow
def test_an_entry_is_made_from_finished_cells_of_one_net(command, tmp_path, monkeypatch, capsys):
    tiny = ("net.width=8", "trainer.max_steps=2", "trainer.precision=32-true", "data.num_train=96", "data.num_test=20")
    tiny += ("outliers.count=200", "batch.inliers=32", "batch.outliers=64", "evaluation.max_ood=10")
    outputs = command(*tiny, "attack.eval.steps=2")
    command(*tiny, "attack=strong", "attack.eval.preset=quick", "attack.eval.steps=2")
    paper, strong = sorted(folder.parent for folder in (outputs / "demo").glob("*/records.jsonl"))
    monkeypatch.setattr(files, "FOLDER", tmp_path / "weights")
    assert main(["add", "tiny", str(paper), str(strong), "--commit", "abc"]) == 0
    assert main(["check", "tiny"]) == 0
    card = zoo.card("tiny")
    assert (card["training"]["steps"], card["training"]["commit"]) == (2, "abc")
    assert set(card["evaluation"]) == {"paper", "strong"}
    (model,) = (outputs / "models").glob("demo-*")
    trained = load_file(model / "weights.safetensors")
    for key, tensor in zoo.load("tiny").state_dict().items():
        half = card["precision"] == "float16" and tensor.ndim > 1
        assert torch.equal(tensor, trained[key].half().float() if half else trained[key]), key

    assert main(["add", "twice", str(paper), str(paper)]) == 2  # the same regime
    assert "one for each regime" in capsys.readouterr().err
    save_weights(model / "weights.safetensors", SmallNet(10, width=8), {})
    assert main(["add", "other", str(paper)]) == 2
    assert "another net than the cells evaluated" in capsys.readouterr().err
    (model / "model.json").unlink()
    assert main(["add", "unfinished", str(paper)]) == 2
    assert "training is not finished" in capsys.readouterr().err
    assert not (tmp_path / "weights" / "twice.json").exists()

    command(*tiny, "objective=ntom")
    (rejects,) = (outputs / "demo").glob("ntom-*")
    assert main(["add", "ntom", str(rejects)]) == 2
    assert "the net has a rejection class" in capsys.readouterr().err


def test_the_net_of_aoe_takes_perturbed_images_for_in_distribution_and_that_of_aloe_does_not(golden_images):
    """Random signs of 1/255 on CIFAR-10 images, and a plain attack on the log-odds of the largest probability."""
    scores = {}
    for name in ("aoe", "aloe"):
        net = zoo.load(f"cifar10-{name}-eps1-small")
        images = golden_images["id"]
        signs = torch.randint(2, images.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1.0
        attacked = images.clone()
        for _ in range(10):
            x = attacked.requires_grad_(True)
            largest = net(x).log_softmax(1).amax(1)
            (gradient,) = torch.autograd.grad(largest.sum(), x)
            attacked = (x - gradient.sign() / 1020).clamp(images - 1 / 255, images + 1 / 255).clamp(0, 1).detach()
        kinds = {"clean": images, "signs": (images + signs / 255).clamp(0, 1), "attacked": attacked}
        scores[name] = {kind: float(net(x).detach().softmax(1).amax(1).mean()) for kind, x in kinds.items()}
    assert scores["aoe"]["signs"] - scores["aoe"]["clean"] > 0.15
    assert scores["aoe"]["clean"] - scores["aoe"]["attacked"] > 0.15
    assert abs(scores["aloe"]["signs"] - scores["aloe"]["clean"]) < 0.02
