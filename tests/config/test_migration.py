"""What version 0.1 stored is found again: its configs mean the same, its nets are not trained again.

`version_0_1/` was written by version 0.1: configs of seven commands, and the outputs of a tiny run.
"""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from aloe_lightning.config.migration import translated
from aloe_lightning.config.validation import validated
from aloe_lightning.errors import UserError
from aloe_lightning.evaluation.records import read_records
from aloe_lightning.storage.cells import cell_name
from aloe_lightning.storage.fingerprints import fingerprint_of, model_name
from aloe_lightning.training.reuse import _require_same_images
from composing import composed

STORED = Path(__file__).parent / "version_0_1"
CONFIGS = json.loads((STORED / "configs.json").read_text())
D = ["paths.data=/d", "paths.verify=false"]
TODAY = {
    "demo": ["objective=aloe"],
    "cifar10_aloe": ["+experiment=cifar10_aloe"],
    "cifar100_oe": ["+experiment=cifar100", "objective=oe", "detector=paper", "epsilon=2"],
    "gtsrb_original": ["+experiment=gtsrb", "objective=original", "detector=paper", "attack=authors"],
    "unverified": [
        *("+experiment=cifar10", "+scale=small", "study=cifar10_small", "trainer.max_steps=1400", "objective=adv", *D),
        *("evaluation.max_ood=600", "outliers=npy", "outliers.path=/d/outliers/x.npy", "ood=[textures,places365]"),
        "+ood.crop=/d/crop",
    ],
    "tiny_images": [
        *("+experiment=gtsrb", "+scale=small", "study=gtsrb_small", "trainer.max_steps=1000", "objective=oe"),
        *("evaluation.max_ood=600", "outliers=tiny_images", "data.augment=online"),
    ],
    "own": [
        *("+experiment=custom", "data.train=/d/train", "data.test=/d/test", "+ood.far=/d/far", "objective=oe"),
        *("outliers=folder", "outliers.path=/d/out"),
    ],
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_command_of_version_0_1_means_the_same_training_cell_and_table(name):
    old = translated(CONFIGS[name]["config"])
    new = validated(composed(*TODAY[name], "trainer.precision=bf16-mixed"))
    for subject in ("training", "cell", "table"):
        assert fingerprint_of(old, subject) == fingerprint_of(new, subject) != "invalid"
    assert (model_name(old), cell_name(old), old["study"]) == (model_name(new), cell_name(new), new["study"])
    if name == "own":
        assert new["outliers"].pop("count") is None, "a key that version 0.1 did not list"
        assert new["data"].pop("size") == 32, "a key that version 0.1 did not have"
    assert new.pop("optimize") is None, "a key that version 0.1 did not have"
    assert new["evaluation"].pop("examples") == 3, "likewise"
    assert new["trainer"].pop("sync_batchnorm") is False, "likewise"
    assert {key: old[key] for key in new if key != "protocol"} == {k: v for k, v in new.items() if k != "protocol"}


def test_nets_and_cells_of_version_0_1_are_found_again(command, tmp_path, capsys):
    """Not trained again, not even evaluated again; a further detector is evaluated on the old net."""
    shutil.copytree(STORED / "outputs", tmp_path / "outputs")
    weights = next(tmp_path.glob("outputs/models/*/weights.safetensors")).read_bytes()
    before = [json.loads(line) for line in next(tmp_path.glob("outputs/demo/*/records.jsonl")).read_text().splitlines()]
    words = [
        *("objective=oe", "net.width=8", "trainer.max_steps=2", "trainer.precision=32-true", "group=methods"),
        *("trainer.log_every_n_steps=1", "data.num_train=96", "data.num_test=20", "outliers.count=200"),
        *("batch.inliers=32", "batch.outliers=64", "attack.eval.steps=2", "ood=[demo]", "evaluation.max_ood=10"),
        *("detector=[msp,odin_tuned]", "detector.odin_tuned.noise=20"),
    ]
    outputs = command(*words)
    printed = capsys.readouterr()
    assert "trained net of an earlier version" in printed.err
    assert "done before" in printed.err
    assert "training\n" not in printed.err
    (cell,) = outputs.glob("demo/oe-*")
    (net,) = outputs.glob("models/demo-oe-*")
    assert (net / "weights.safetensors").read_bytes() == weights
    records = read_records(cell / "records.jsonl")
    assert [r.value for r in records] == [r["value"] for r in before]
    assert {r.detector_title for r in records if r.detector} == {"MSP", "ODIN (tuned)"}
    command(*words[:-2], "detector=[msp]")
    assert "oe: trained before" in capsys.readouterr().err
    assert len(list(outputs.glob("demo/oe-*/records.jsonl"))) == 2


@pytest.mark.parametrize(("std", "accepted"), [([0.25, 0.25, 0.25], True), ([0.2, 0.25, 0.25], False)])
def test_a_net_of_custom_images_is_not_used_with_another_normalisation(std, accepted):
    """Version 0.1 did not store whether mean and std were given or computed, and weights do not hold them."""
    metadata = {"normalisation": [[0.5, 0.5, 0.5], std], "trained_on": ["a", "b"]}
    model = SimpleNamespace(metadata=metadata, folder=Path("net"))
    inliers = SimpleNamespace(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    data = SimpleNamespace(inliers=inliers, trained_on=lambda: ("a", "b"))
    if accepted:
        _require_same_images(model, data)
    else:
        with pytest.raises(UserError, match="another normalisation"):
            _require_same_images(model, data)
