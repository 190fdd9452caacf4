"""Fingerprints: the same training, the same cell, the same table."""

from dataclasses import replace

import pytest
from omegaconf import OmegaConf

from aloe_lightning import objectives
from aloe_lightning.config.validation import validated
from aloe_lightning.signatures.description import describe
from aloe_lightning.storage.fingerprints import fingerprint_of, model_name, uses
from composing import changed, composed

CIFAR10 = "+experiment=cifar10"


@pytest.mark.parametrize(
    "setting",
    [
        *("epsilon=4", "train_epsilon=2", "eval_epsilon=8", "seed=3", "paths.data=/elsewhere"),
        *("paths.outputs=/elsewhere", "study=other", "cell=other", "recompute=training", "debug=true"),
        *("trainer.log_every_n_steps=5", "evaluation.batch_size=7", "compile=off", "net.fused=false"),
    ],
)
def test_the_fingerprint_ignores(setting):
    assert fingerprint_of(changed([CIFAR10], setting), "table") == fingerprint_of(composed(CIFAR10), "table")


@pytest.mark.parametrize("choice", ["objective=oe", "logger=wandb"])
def test_the_fingerprint_ignores_the_choice(choice):
    assert fingerprint_of(composed(CIFAR10, choice), "table") == fingerprint_of(composed(CIFAR10), "table")


@pytest.mark.parametrize(
    "setting",
    [
        *("net.depth=40", "net.growth_rate=24", "trainer.max_steps=7", "trainer.max_epochs=7", "optim.lr=0.2"),
        *("batch.outliers=64", "data.augment=false", "attack.eval.steps=20", "attack.inner_batchnorm=train"),
        *("evaluation.max_id=100", "trainer.precision=64-true", "outliers.name=other"),
        *("objective.outlier_weight=1", "attack.name=other", "tf32=true"),
    ],
)
def test_the_fingerprint_changes_with(setting):
    assert fingerprint_of(changed([CIFAR10], setting), "table") != fingerprint_of(composed(CIFAR10), "table")


@pytest.mark.parametrize("choice", ["net=small", "ood=svhn"])
def test_the_fingerprint_changes_with_the_choice(choice):
    assert fingerprint_of(composed(CIFAR10, choice), "table") != fingerprint_of(composed(CIFAR10), "table")


def test_a_step_size_relative_to_epsilon_is_one_setting_at_all_budgets():
    cells = [composed(CIFAR10, "+scale=fast", f"epsilon={epsilon}") for epsilon in (1, 2)]
    assert [cell.attack.train.step_size for cell in cells] == [1.25, 2.5]
    assert len({validated(cell)["protocol"] for cell in cells}) == 1
    assert (
        fingerprint_of(changed([CIFAR10, "+scale=fast"], "attack.train.step_size=1.25"), "table") != cells[0].protocol
    )


def test_another_version_of_an_attack_is_another_table_and_the_same_net(monkeypatch):
    def newer(target):
        description = describe(target)
        constants = {**description.constants, **({"version": 3} if target.endswith("Strong") else {})}
        return replace(description, constants=constants)

    cell = composed(CIFAR10, "attack=strong")
    before = [fingerprint_of(cell, subject) for subject in ("table", "cell", "training")]
    monkeypatch.setattr("aloe_lightning.storage.fingerprints.describe", newer)
    after = [fingerprint_of(cell, subject) for subject in ("table", "cell", "training")]
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, False, True]


def test_a_helper_is_what_its_file_holds_wherever_it_is(tmp_path):
    files = [tmp_path / name for name in ("first", "copy", "other")]
    for file, content in zip(files, ("a", "a", "b"), strict=True):
        file.write_text(content)

    def prints():
        cells = [changed([CIFAR10, "objective=halo"], f"objective.helper={file}") for file in files]
        return [fingerprint_of(cell, "training") for cell in cells]

    first, copy, other = before = prints()
    assert first == copy != other
    files[0].write_text("trained again")
    assert prints()[0] not in before


def test_the_fingerprint_of_the_demo_changes_with_width_and_steps_and_is_eight_hex_digits():
    configs = [composed(CIFAR10), *(changed([], *s) for s in ([], ["net.width=24"], ["trainer.max_steps=9"]))]
    prints = {fingerprint_of(cfg, "table") for cfg in configs}
    assert {validated(cfg)["protocol"] for cfg in configs} == prints
    assert len(prints) == 4
    assert all(len(found) == 8 and int(found, 16) >= 0 for found in prints)


@pytest.mark.parametrize("setting", ["detector.odin.eta=0.1", "evaluation.max_id=100", "attack.eval.steps=20"])
def test_a_cell_is_told_from_others_by_what_is_measured_too(setting):
    assert fingerprint_of(changed([CIFAR10], setting), "cell") != fingerprint_of(composed(CIFAR10), "cell")


def test_a_copy_that_nobody_vouches_for_is_told_by_its_place():
    prints = {
        fingerprint_of(changed([CIFAR10], *settings), of)
        for of in ("table", "training")
        for settings in (
            [],
            ["paths.verify=false"],
            ["paths.verify=false", "paths.data=/elsewhere"],
        )
    }
    assert len(prints) == 6


def test_an_objective_of_ones_own_under_a_known_name_is_another_cell_of_the_same_table():
    mine, theirs = changed([CIFAR10], "objective._target_=outside.ALOE"), composed(CIFAR10)
    assert fingerprint_of(mine, "cell") != fingerprint_of(theirs, "cell")
    assert fingerprint_of(mine, "table") == fingerprint_of(theirs, "table")


def test_which_device_does_not_matter_but_how_many():
    def devices(value):
        return fingerprint_of(changed([CIFAR10], f"trainer.devices={value}"), "training")

    assert devices("[0]") == devices("[3]") == devices(1)
    assert devices("[0, 1]") == devices(2) != devices(1)


def test_different_weights_of_ones_own_share_a_table():
    one, two = (changed([CIFAR10], f"checkpoint={name}.pt") for name in "ab")
    assert fingerprint_of(one, "table") == fingerprint_of(two, "table")
    assert fingerprint_of(one, "cell") != fingerprint_of(two, "cell")


def test_a_table_may_hold_cells_of_different_detectors():
    assert fingerprint_of(composed(CIFAR10, "detector=[energy]"), "table") == fingerprint_of(composed(CIFAR10), "table")


# --- which trainings are one ---


@pytest.mark.parametrize("name", ["Original", "OE", "ADV", "AOE", "ALOE"])
def test_the_class_states_what_an_objective_uses(name):
    """Read from the source text as the imported class has it."""
    cls = getattr(objectives, name)
    stated = cls.uses_outliers, cls.perturbs_inliers or cls.perturbs_outliers
    assert uses({"_target_": f"aloe_lightning.objectives.{name}"}) == stated


def test_an_objective_from_outside_that_perturbs_nothing_is_one_training_for_all_budgets():
    def name(target, epsilon):
        settings = (f"objective._target_=outside.{target}", "objective.name=mine", f"epsilon={epsilon}")
        return model_name(validated(changed([CIFAR10], *settings)))

    assert name("Plain", 1) == name("Plain", 4)
    assert "-train" not in name("Plain", 1)
    assert name("ALOE", 1) != name("ALOE", 4)


def test_a_parameter_added_later_with_its_default_changes_nothing():
    cfg = changed([CIFAR10])
    before = [fingerprint_of(cfg, subject) for subject in ("training", "cell", "table")]
    for key in ("net.reduction", "optim.momentum", "batch.outliers", "trainer.accumulate_grad_batches"):
        parent, _, name = key.rpartition(".")
        OmegaConf.select(cfg, parent).pop(name)  # as a config of a version without the parameter
    cfg.batch.outliers = 128
    assert [fingerprint_of(cfg, subject) for subject in ("training", "cell", "table")] == before


def model(objective, *settings):
    return model_name(validated(changed([CIFAR10, f"objective={objective}"], *settings)))


@pytest.mark.parametrize(
    ("objective", "setting"),
    [
        *(("aloe", s) for s in ("eval_epsilon=8", "attack.eval.steps=3", "evaluation.max_id=9", "detector.odin.eta=1")),
        *(("aloe", s) for s in ("study=other", "paths.data=/elsewhere", "checkpoint_seconds=5", "recompute=training")),
        *(
            ("original", s)
            for s in ("epsilon=4", "outliers.name=other", "batch.outliers=9", "attack.train.step_size=2")
        ),
        *(("original", s) for s in ("objective.outlier_weight=2", "data.augment_outliers=false")),
        *(("oe", s) for s in ("epsilon=4", "attack.train.rounding=nearest", "trainer.accelerator=cpu")),
        *(("adv", s) for s in ("outliers.name=other", "eval_epsilon=2")),
    ],
)
def test_a_training_does_not_depend_on(objective, setting):
    assert model(objective, setting) == model(objective)


@pytest.mark.parametrize(
    ("objective", "setting"),
    [
        *(
            ("aloe", s)
            for s in ("train_epsilon=4", "seed=1", "outliers.name=other", "attack.train.steps=7", "optim.lr=1")
        ),
        *(("original", s) for s in ("seed=1", "net.depth=40", "trainer.max_epochs=3", "batch.inliers=9")),
        *(("oe", s) for s in ("outliers.name=other", "batch.outliers=9", "objective.outlier_weight=1")),
        *(("adv", s) for s in ("train_epsilon=4", "attack.train.rounding=nearest")),
    ],
)
def test_a_training_depends_on(objective, setting):
    assert model(objective, setting) != model(objective)


def test_outliers_that_are_test_images_are_left_out_so_the_test_sets_count_where_there_are_outliers():
    def with_fewer(objective):
        return model_name(validated(composed(CIFAR10, f"objective={objective}", "ood=[svhn]")))

    assert with_fewer("oe") != model("oe")
    assert with_fewer("adv") == model("adv")


def test_a_nets_name_says_what_it_is():
    assert model("aloe", "train_epsilon=2", "seed=3").rpartition("-")[0] == "cifar10-aloe-train2-seed3"
    assert model("oe").rpartition("-")[0] == "cifar10-oe-seed0"
