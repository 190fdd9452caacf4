"""The walks of a new user: photos at 224 pixels, a CIFAR checkpoint, own parts, wrong pixels, Mahalanobis."""

import ast
import csv
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from photos import write_photos
from torch import nn
from torchvision.models import resnet18

from aloe_lightning.attacks import PGD
from aloe_lightning.errors import UserError
from aloe_lightning.nets import Normalize, SmallNet
from aloe_lightning.robustness import Result, evaluate
from aloe_lightning.robustness.images import images_of
from aloe_lightning.storage.weights import load_weights, save_weights

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "attack"
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Three folders of photos, and a ResNet-18 whose last layer tells the colours apart."""
    root = write_photos(tmp_path_factory.mktemp("photos"), count=1)
    torch.manual_seed(0)
    net = resnet18(num_classes=3).eval()
    with torch.no_grad():
        body = nn.Sequential(Normalize(*IMAGENET.values()), *list(net.children())[:-1], nn.Flatten())
        batches = [batch for size in (224, 96) for batch in images_of("train", root / "train", size, 3)]
        features = torch.cat([body(batch.images) for batch in batches])
        targets = 8 * torch.eye(3)[torch.arange(len(features)) % (len(features) // 2) // (len(features) // 6)]
        solution = torch.linalg.pinv(features - features.mean(0)) @ (targets - targets.mean(0))
        net.fc.weight.copy_(solution.T)
        net.fc.bias.copy_(targets.mean(0) - features.mean(0) @ solution)
    torch.save({"state_dict": {f"module.{name}": t for name, t in net.state_dict().items()}}, root / "mine.pt")
    torch.save(net.state_dict(), root / "plain.pt")
    return root


@pytest.mark.slow
def test_photos_from_python_in_eight_lines(photos, tmp_path):
    lines = [line for line in (EXAMPLES / "photos.py").read_text().splitlines() if line.strip()]
    body = [line for line in lines[1:] if not line.startswith(("import", "from"))]
    assert len(body) <= 8
    command = [sys.executable, EXAMPLES / "photos.py", photos / "plain.pt", photos / "test", photos / "fabric"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()
    assert first[0] == "ResNet gives logits of 3 classes"
    assert first[1] == "images: 224x224 pixels"
    assert first[4].startswith("clean accuracy: 100.00 %")
    page = (tmp_path / "report" / "robustness.html").read_text()
    assert "resized to 224x224 pixels from 96x80" in page
    assert page.index("clean accuracy: 100.00 %") < page.index("<table>")


@pytest.mark.slow
def test_the_python_of_the_pages_runs_as_it_stands(photos, tmp_path, monkeypatch, capsys):
    """The block of the README, which is also the one of the how-to, on a net that is cheap at 224 pixels."""
    pages = [ROOT / "README.md", ROOT / "docs" / "how-to" / "attack-my-net.md"]
    block = re.compile(r"```python\n(from aloe_lightning.robustness .*?)```", re.DOTALL)
    texts = [block.search(page.read_text())[1] for page in pages]
    assert ast.dump(ast.parse(texts[0])) == ast.dump(ast.parse(texts[1]))
    (tmp_path / "photos").symlink_to(photos)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 16, 16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    names = {"net": net.eval()}
    exec(texts[0], names)
    numbers = names["result"].numbers
    assert len(numbers) > 4
    assert "fabric" in capsys.readouterr().out
    assert f"{100 * numbers.value.iloc[0]:.2f}" in (tmp_path / "report" / "robustness.html").read_text()


def test_photos_from_the_command_line(photos, command, capsys):
    words = [
        *("+experiment=attack", "net=torchvision", "net.model=resnet18", f"checkpoint={photos}/mine.pt"),
        *(f"data.test={photos}/test", f"+ood.fabric={photos}/fabric", "data.size=96", f"data.train={photos}/train"),
        *(
            "detector=[msp,mahalanobis_last]",
            "epsilon=2",
            "attack=paper",
            "attack.eval.steps=1",
            "evaluation.max_ood=2",
        ),
    ]
    words += ["net.size=96"]
    outputs = command(*words)
    out = capsys.readouterr().out
    assert out.index("clean accuracy: 100.00 %") < out.index("AUROC")
    assert "mean (0.485, 0.456, 0.406), std (0.229, 0.224, 0.225) (torchvision's transforms of" in out
    (file,) = (outputs / "attack-custom").glob("*/result.json")
    result = Result.load(file.parent)
    net = resnet18(num_classes=3)
    net.load_state_dict(torch.load(photos / "plain.pt", weights_only=True))
    attack = PGD(epsilon=2, steps=1)
    python = evaluate(net, photos / "test", {"fabric": photos / "fabric"}, size=96, attack=attack, **IMAGENET)
    for condition in ("clean", "attacked"):
        expected = python.scores["msp", "id", condition]
        assert result.scores["msp", "id", condition] == pytest.approx(expected, abs=1e-4)
    assert len(result.scores["msp", "fabric", "clean"]) == 2
    assert result.scores.detectors == ["msp", "mahalanobis_last"]
    records = [json.loads(line) for line in (file.parent / "records.jsonl").read_text().splitlines()]
    assert {r["objective_title"] for r in records} == {"torchvision-resnet18"}
    rows = list(csv.DictReader((outputs / "attack-custom" / "robustness_table.csv").read_text().splitlines()))
    assert rows
    command(*words)
    assert "done before" in capsys.readouterr().err


def test_normalisation_of_the_data_is_put_before_a_class_that_does_not_take_it(photos, command, capsys, monkeypatch):
    """It was ignored without a word: the net got pixels, and its numbers were wrong."""
    (photos / "nets_of_a_user.py").write_text("from torchvision.models import resnet18 as net\n\n\n"
        "def resnet(num_classes):\n    return net(num_classes=num_classes)\n")  # fmt: skip
    monkeypatch.syspath_prepend(photos)
    words = [
        "+experiment=attack",
        "attack=paper",
        "attack.eval.steps=1",
        "data.size=96",
        f"checkpoint={photos}/mine.pt",
    ]
    words += [f"data.test={photos}/test", f"+ood.fabric={photos}/fabric", "data.mean=[0.485,0.456,0.406]"]
    words += ["data.std=[0.229,0.224,0.225]"]
    command(*words, "net=custom", "net._target_=nets_of_a_user.resnet", "net.name=own")
    assert "normalisation: before the net, mean (0.485, 0.456, 0.406)" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        command(*words, "net=torchvision", "net.size=96")
    assert "normalises inside" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["data.size=64"], "expects 224x224 pixels, and data.size is 64"),
        (["net.num_classes=7"], "has 3 classes"),
        (["checkpoint=null"], "has random weights"),
        (["net=small", "net.width=8"], "set data.mean, data.std"),
        (["detector=knn"], "requires training images"),
        (["+net.size=0"], "net.size"),
    ],
)
def test_mistakes_of_the_command_are_answered_in_one_line(change, message, photos, command, capsys):
    words = ["+experiment=attack", f"checkpoint={photos}/mine.pt", f"data.test={photos}/test"]
    with pytest.raises(SystemExit) as stop:
        command(*words, f"+ood.fabric={photos}/fabric", *change)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


class CIFARNet(nn.Module):
    """A net for normalised 32x32 images, as in repositories of CIFAR nets."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.linear = nn.Linear(16, 10)

    def forward(self, x):
        return self.linear(self.conv1(x).relu().mean((2, 3)))


def test_a_cifar_checkpoint_that_expects_normalised_images(tmp_path):
    torch.manual_seed(0)
    trained, images = CIFARNet(), torch.rand(60, 3, 32, 32) ** torch.linspace(0.2, 3, 60).view(60, 1, 1, 1)
    normalisation = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010)}
    with torch.no_grad():
        trained.linear.weight.mul_(20)
        labels = trained(Normalize(*normalisation.values())(images)).argmax(1)
    state = {f"module.{name}": tensor for name, tensor in trained.state_dict().items()}
    torch.save({"net": state, "acc": 95.2, "epoch": 199}, tmp_path / "ckpt.pth")
    net = CIFARNet()
    load_weights(tmp_path / "ckpt.pth", net)
    options = {"preset": "paper", "sides": ("both",), "verbose": False}
    right = evaluate(net, (images, labels), {"dark": images / 2}, **normalisation, **options)
    assert right.accuracy == 1
    assert right.notes == []
    wrong = evaluate(net, (images, labels), {"dark": images / 2}, **options)
    assert wrong.accuracy < 1
    normalised = Normalize(*normalisation.values())(images)
    with pytest.raises(UserError, match=r"outside \[0, 1\].*mean=\(r, g, b\)"):
        evaluate(net, (normalised, labels), {"dark": images}, **options)


def test_own_net_score_attack_and_detector(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / "own.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "Net gives logits of 5 classes" in printed
    assert "smoothness gives a score of each image" in printed
    assert "LargestDifference" in printed


@pytest.mark.slow
def test_mahalanobis_of_the_photos(photos):
    net = resnet18(num_classes=3).eval()
    net.load_state_dict(torch.load(photos / "plain.pt", weights_only=True))
    options = {"size": 64, "preset": "paper", "verbose": False, "sides": ("none", "both"), **IMAGENET}
    sets = photos / "test", {"fabric": photos / "fabric"}
    result = evaluate(net, *sets, detectors=("mahalanobis_last", "mahalanobis"), train=photos / "train",
                      outliers=photos / "fabric", **options)  # fmt: skip
    assert result.number("auroc", detector="mahalanobis_last", side="none") == 1
    attacked, clean = (result.scores["mahalanobis_last", "id", c] for c in ("attacked", "clean"))
    assert (attacked < clean).all()
    with pytest.raises(UserError, match="requires training images: give train="):
        evaluate(net, *sets, detectors=("mahalanobis_last",), **options)
    with pytest.raises(UserError, match="outliers"):
        evaluate(net, *sets, detectors=("mahalanobis",), train=photos / "train", **options)

    class Convolution(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3)

        def forward(self, x):
            return self.conv(x).mean((2, 3))

    with pytest.raises(UserError, match="detector knn on Convolution: the logits of"):
        evaluate(Convolution(), *sets, detectors=("knn",), train=photos / "train", size=64, preset="paper")


def test_a_net_of_a_library_is_trained_at_another_size(photos, command, capsys):
    words = [
        *("+experiment=custom", "net=torchvision", "net.model=shufflenet_v2_x0_5", "data.size=48", "objective=oe"),
        *(f"data.train={photos}/train", f"data.test={photos}/test", f"+ood.fabric={photos}/fabric"),
        *("outliers=folder", f"outliers.path={photos}/fabric", "trainer.max_steps=2", "trainer.precision=32-true"),
        *("batch={inliers: 4, outliers: 4}", "attack.eval.steps=1", "evaluation.classifier=false"),
    ]
    with pytest.raises(SystemExit):
        command(*words)  # the outliers are the OOD set
    assert "no outliers remain" in capsys.readouterr().err
    write_photos(photos / "other", count=3, size=(50, 50))
    words[words.index(f"outliers.path={photos}/fabric")] = f"outliers.path={photos}/other/test"
    outputs = command(*words)
    rows = list(csv.DictReader((outputs / "custom" / "tables.csv").read_text().splitlines()))
    assert {row["metric"] for row in rows} >= {"auroc", "fpr95"}


def test_a_given_net_with_a_rejection_class_is_classified_by_its_classes(command, tmp_path):
    torch.manual_seed(0)
    net = SmallNet(4, width=8).eval()
    with torch.no_grad():
        net.fc.bias[3] = 9  # by K + 1 outputs every image would be rejected
    save_weights(tmp_path / "net.safetensors", net, {})
    photos = write_photos(tmp_path, count=2)
    words = ["+experiment=attack", "objective=ntom", "net=small", "net.width=8", "data.mean=[0.5,0.5,0.5]"]
    words += [f"checkpoint={tmp_path}/net.safetensors", f"data.test={photos}/test", f"+ood.fabric={photos}/fabric"]
    words += ["data.std=[0.25,0.25,0.25]", "data.size=32", "detector=[msp,rejection]", "attack=paper"]
    outputs = command(*words, "attack.eval.steps=1")
    (file,) = outputs.glob("*/*/result.json")
    result = Result.load(file.parent)
    (images,) = (batch.images for batch in images_of("id", photos / "test", 32, 100))
    with torch.no_grad():
        outputs = net(images).double()
    expected = outputs[:, :3].softmax(1).amax(1)
    torch.testing.assert_close(torch.from_numpy(result.scores["msp", "id", "clean"]), expected, rtol=1e-5, atol=1e-6)
    rejection = outputs[:, :3].logsumexp(1) - outputs[:, 3]
    torch.testing.assert_close(
        torch.from_numpy(result.scores["rejection", "id", "clean"]), rejection, rtol=1e-4, atol=1e-5
    )
