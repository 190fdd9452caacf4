"""The configuration: every file composes, signatures say what the code accepts, and a mistake is answered in words."""

import inspect
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf
from pytorch_lightning import Trainer

import aloe_lightning.conf
from aloe_lightning.config.build import build_data
from aloe_lightning.config.layout import ROOT, SUPPLIED
from aloe_lightning.config.validation import validated
from aloe_lightning.errors import UserError, did_you_mean
from aloe_lightning.signatures.description import describe
from aloe_lightning.tracking.loggers import wandb_logger
from composing import changed, composed

CIFAR10 = "+experiment=cifar10"
CONF = Path(aloe_lightning.conf.__file__).parent
EXPERIMENTS = sorted(file.stem for file in (CONF / "experiment").glob("*.yaml"))
ATTACK = ["+experiment=attack", "data.test=a", "+ood.far=b", "checkpoint=mine.pt"]
CUSTOM = ["+experiment=custom", "data.train=a", "data.test=b", "+ood.far=c"]


def content_of(*overrides):
    return validated(composed(*overrides))


def problems_of(cfg):
    """The problems of a config that is wrong."""
    with pytest.raises(UserError) as error:
        validated(cfg)
    message = str(error.value)
    assert message.startswith("config: ")
    return message.removeprefix("config: ").split("; ")


# --- what the files say ---


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_and_is_valid(name):
    content = content_of(*{"custom": CUSTOM, "attack": ATTACK}.get(name, [f"+experiment={name}"]))
    data, _, objective = name.partition("_")
    if name == "attack":
        assert (content["study"], content["checkpoint"]) == ("attack-custom", "mine.pt")
        return
    assert content["study"] == content["data"]["name"] == data
    if objective:
        assert content["objective"]["name"] == objective
        assert content["objective"]["_target_"].lower() == f"aloe_lightning.objectives.{objective}"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_opens_with_its_command_and_has_at_most_15_lines(name):
    lines = (CONF / "experiment" / f"{name}.yaml").read_text().splitlines()
    assert len(lines) <= 15
    assert lines[0] == "# @package _global_"
    assert lines[1].startswith(f"# python -m aloe_lightning +experiment={name}")


def test_the_small_scale_is_one_file_for_every_data_set():
    for name in ("cifar10", "cifar100", "gtsrb"):
        content = content_of(f"+experiment={name}", "+scale=small")
        assert (content["net"]["name"], content["trainer"]["max_steps"], content["data"]["name"]) == (
            "small",
            800,
            name,
        )


@pytest.mark.parametrize("epsilon", [1, 2])
def test_the_fast_scale_takes_one_inner_step_of_one_and_a_quarter_epsilon(epsilon):
    content = content_of("+experiment=cifar10_aloe", "+scale=fast", f"epsilon={epsilon}")
    attack = content["attack"]
    assert (attack["train"]["steps"], attack["train"]["step_size"]) == (1, 1.25 * epsilon)
    assert (attack["train"]["random_start"], attack["eval"]["steps"], attack["eval"]["step_size"]) == (True, 10, 1)
    assert (content["net"]["name"], content["trainer"]["max_epochs"]) == ("densenet", 15)
    assert (content["batch"], content["optim"]["lr"]) == ({"inliers": 128, "outliers": 64}, 0.2)


@pytest.mark.parametrize("group", ["data", "net", "optim", "logger", "attack", "ood", "detector"])
def test_every_choice_of_a_group_composes(group):
    for file in sorted((CONF / group).glob("*.yaml")):
        base = ["+experiment=cifar10"] if group in ("data", "ood") and file.stem != "demo" else []
        if group == "data" and file.stem in ("folder", "npz"):
            base = CUSTOM
        if (group, file.stem) == ("data", "test_folder"):
            base = ATTACK
        if (group, file.stem) in (("net", "file"), ("net", "custom")):
            base = [*base, "net.path=net.pt2" if file.stem == "file" else "net._target_=aloe_lightning.nets.SavedNet"]
            base += ["+net.path=net.pt2"] if file.stem == "custom" else []
        if (group, file.stem) == ("detector", "rejection"):
            base = ["objective=atom"]
        node = content_of(*base, f"{group}={file.stem}")[group]
        assert set(yaml.safe_load(file.read_text())) - {"defaults"} <= set(node)


@pytest.mark.parametrize("name", ["original", "oe", "adv", "aoe", "aloe", "acet", "halo", "ntom", "atom"])
def test_an_objective_is_built_by_the_class_of_its_name(name):
    node = content_of(f"objective={name}")["objective"]
    assert node["name"] == name
    assert node["_target_"].lower() == f"aloe_lightning.objectives.{name}"


def test_cifar10_aloe_is_the_papers_setting():
    content = content_of("+experiment=cifar10_aloe")
    expected = {
        "data": {
            "_target_": "aloe_lightning.data.CIFAR10",
            "name": "cifar10",
            "augment": True,
            "augment_outliers": True,
        },
        "net": {"depth": 100, "growth_rate": 12, "reduction": 0.5},
        "objective": {"_target_": "aloe_lightning.objectives.ALOE", "outlier_weight": 0.5},
        "optim": {
            "lr": 0.1,
            "min_lr": 1e-6,
            "warmup": 0,
            "momentum": 0.9,
            "nesterov": True,
            "weight_decay": 1e-4,
        },
        "batch": {"inliers": 64, "outliers": 128},
        "trainer": {"max_epochs": 100, "max_steps": -1, "accumulate_grad_batches": 1},
    }
    for part, values in expected.items():
        assert {key: content[part][key] for key in values} == values
    assert content["net"]["_target_"] == "aloe_lightning.nets.DenseNet"
    assert (content["epsilon"], content["train_epsilon"], content["eval_epsilon"]) == (1, 1, 1)
    assert {key: content["attack"]["train"][key] for key in ("epsilon", "step_size", "random_start")} == {
        "epsilon": 1,
        "step_size": 1,
        "random_start": True,
    }
    assert content["attack"]["train"]["steps"] is None, "floor(epsilon) + 1, whatever the epsilon"
    assert {key: content["attack"]["eval"][key] for key in ("epsilon", "step_size", "steps", "random_start")} == {
        "epsilon": 1,
        "step_size": 1,
        "steps": 10,
        "random_start": True,
    }
    assert set(content["detector"]) == {"msp", "odin"}
    assert content["detector"]["odin"]["temperature"] == 1000
    assert content["detector"]["odin"]["eta"] == 0.0014
    assert set(content["ood"]) == {"svhn", "textures", "places365", "lsun_c", "lsun_r", "isun"}
    built = build_data(content, uses_outliers=True)
    assert all(one.verify for one in built.ood.values())
    assert built.inliers.num_classes == 10
    assert list(built.inliers.mean) == pytest.approx([125.3 / 255, 123.0 / 255, 113.9 / 255], rel=1e-12)
    assert list(built.inliers.std) == pytest.approx([63.0 / 255, 62.1 / 255, 66.7 / 255], rel=1e-12)
    assert content["evaluation"]["max_id"] is content["evaluation"]["max_ood"] is None


def test_gtsrb_aloe_is_the_papers_setting():
    content = content_of("+experiment=gtsrb_aloe")
    data = content["data"]
    assert data["augment"] == "offline"
    assert (data["per_class"], data["max_test"]) == (10_000, 10_000)
    built = build_data(content, uses_outliers=True).inliers
    assert (built.num_classes, list(built.mean), list(built.std)) == (
        *(43, [0.3337, 0.3064, 0.3171], [0.2672, 0.2564, 0.2629]),
    )
    assert data["augment_outliers"], "outliers are cropped and flipped although signs are not"
    assert content["detector"]["odin"]["eta"] == 0.0004
    assert content["trainer"]["max_epochs"] == 10
    assert set(content["ood"]) == {"cifar10", "textures", "places365", "lsun_c", "lsun_r", "isun"}
    assert content["outliers"]["name"] == "300k"


def test_cifar100_differs_from_cifar10_in_the_data_and_odins_step():
    ten, hundred = (content_of(f"+experiment=cifar{classes}_aloe") for classes in (10, 100))
    assert hundred.pop("protocol") != ten.pop("protocol")
    assert (hundred.pop("group"), ten.pop("group")) == ("cifar100", "cifar10")
    assert hundred.pop("cell").rsplit("-", 1)[0] == ten.pop("cell").rsplit("-", 1)[0]
    assert hundred["detector"]["odin"].pop("eta") == 0.0028
    assert ten["detector"]["odin"].pop("eta") == 0.0014
    assert hundred["data"].pop("_target_") != ten["data"].pop("_target_")
    assert (hundred["data"].pop("name"), hundred.pop("study")) == ("cifar100", "cifar100")
    assert (ten["data"].pop("name"), ten.pop("study")) == ("cifar10", "cifar10")
    assert hundred == ten


@pytest.mark.parametrize(
    ("settings", "train", "evaluation"),
    [(["epsilon=4"], 4, 4), (["epsilon=4", "train_epsilon=2"], 2, 4), (["epsilon=4", "eval_epsilon=8"], 4, 8)],
)
def test_epsilon_feeds_both_attacks_and_either_can_differ(settings, train, evaluation):
    attacks = validated(changed([], *settings))["attack"]
    assert (attacks["train"]["epsilon"], attacks["eval"]["epsilon"]) == (train, evaluation)


def test_the_authors_attack_truncates_and_normalises_by_the_batch():
    attacks = content_of("attack=authors")["attack"]
    assert (attacks["train"]["rounding"], attacks["inner_batchnorm"]) == ("truncate", "train")
    assert (attacks["eval"]["rounding"], attacks["name"], attacks["eval"]["steps"]) == ("truncate", "authors", 10)


def test_root_and_verify_come_from_paths_unless_a_set_states_its_own():
    """The arguments that the builder gives to every named set."""
    data = build_data(validated(changed([CIFAR10], "paths.data=/d", "paths.verify=false")), uses_outliers=True)
    sets = [data.inliers, data.outliers, *data.ood.values()]
    assert {(one.root, one.verify) for one in sets} == {("/d", False)}
    data = build_data(validated(changed([CIFAR10], "ood.svhn.root=/other")), uses_outliers=True)
    assert (data.ood["svhn"].root, data.ood["svhn"].verify, data.ood["isun"].root) == ("/other", True, "data")


# --- the signature is the schema ---


def test_the_trainers_keys_are_lightnings():
    keys = set(describe("aloe_lightning.config.root.Trainer").parameters)
    assert keys <= set(inspect.signature(Trainer).parameters)
    ours = {"logger", "callbacks", "default_root_dir", "enable_model_summary", "enable_progress_bar"}
    assert not keys & (ours | {"use_distributed_sampler", "inference_mode"})


def test_wandbs_keys_are_the_loggers():
    parameters = set(inspect.signature(wandb_logger).parameters) - {"folder", "name", "group", "tags"}
    assert set(describe("aloe_lightning.config.root.WandbLogger").parameters) == parameters | {"kind", "artifact"}


def test_every_root_key_is_in_the_composed_config():
    assert set(describe(ROOT).parameters) == set(content_of())


@pytest.mark.parametrize("place", ["data", "net", "optim", "objective", "attack.train", "attack.eval", "outliers"])
def test_the_files_list_every_key_that_a_user_may_set(place):
    """An override on the command line reaches listed keys only; root and verify come from paths."""
    node = OmegaConf.select(composed(CIFAR10), place)
    parameters = set(describe(node["_target_"]).parameters) - {"root", "verify"}
    assert set(node) - {"_target_", "name"} == parameters - set(SUPPLIED.get(place, ()))


# --- mistakes ---


def test_all_problems_are_told_at_once_each_with_its_key():
    problems = problems_of(
        changed([], "batch.inliers=0", "optim.lrr=1", "seed=-1", "net.width=wide", "trainer.max_steps=1.5")
    )
    assert len(problems) == 5
    assert {problem.split(" ")[0].rstrip(":") for problem in problems} == {
        *("batch.inliers", "optim.lrr", "seed", "net.width", "trainer.max_steps")
    }


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("epsilo=2", "epsilo is unknown, did you mean 'epsilon'?"),
        ("optim.momentun=0.5", "optim.momentun is unknown, did you mean 'momentum'?"),
        ("trainer.max_step=5", "trainer.max_step is unknown, did you mean 'max_steps'?"),
        ("attack.eval.step=5", "attack.eval.step is unknown, did you mean 'steps'?"),
        ("detector.odin.temprature=5", "detector.odin.temprature is unknown, did you mean 'temperature'?"),
        ("ood.stripes.cuont=5", "ood.stripes.cuont is unknown, did you mean 'count'?"),
        ("net.depht=40", "net.depht is unknown, did you mean 'depth'?"),
        ("experimnt=cifar10_aloe", "experimnt is unknown, did you mean 'experiment'?"),
        ("xyzzy=1", "xyzzy is unknown"),
        (
            "net._target_=aloe_lightning.nets.DensNet",
            "net: nothing called 'aloe_lightning.nets.DensNet', did you mean 'aloe_lightning.nets.DenseNet'?",
        ),
    ],
)
def test_a_mistyped_name_is_told_with_the_nearest(override, told):
    assert problems_of(changed([], override)) == [told]


@pytest.mark.parametrize(
    ("overrides", "key", "value"),
    [
        (["attack.eval.steps=-1"], "attack.eval.steps", "-1"),
        (["attack.eval.steps=2.5"], "attack.eval.steps", "2.5"),
        (["attack.train.rounding=up"], "attack.train.rounding", "'up'"),
        (["batch.outliers=0"], "batch.outliers", "0"),
        (["detector.odin.temperature=0"], "detector.odin.temperature", "0"),
        (["detector.odin.eta=-0.1"], "detector.odin.eta", "-0.1"),
        (["evaluation.max_id=0"], "evaluation.max_id", "0"),
        (["objective.outlier_weight=-1"], "objective.outlier_weight", "-1"),
        (["optim.lr=0"], "optim.lr", "0"),
        (["optim.lr=fast"], "optim.lr", "'fast'"),
        (["optim.warmup=1"], "optim.warmup", "1"),
        (["trainer.precision=16"], "trainer.precision", "16"),
        (["logger.kind=cvs"], "logger.kind", "cvs"),
    ],
)
def test_a_value_out_of_range_is_told_with_its_key_and_itself(overrides, key, value):
    problems = problems_of(changed([], *overrides))
    assert any(problem.startswith(key) and value in problem for problem in problems), problems


@pytest.mark.parametrize("epsilon", ["-1", "256", "1/255", "one", "nan"])
def test_an_epsilon_that_is_no_number_of_pixel_steps_is_told(epsilon):
    problems = problems_of(changed([], f"epsilon={epsilon}"))
    assert any(problem.startswith("epsilon: ") and epsilon in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        (["epsilon=0.03"], ["epsilon"]),
        (["epsilon=0.03", "eval_epsilon=8"], ["epsilon"]),
        (["train_epsilon=0.1"], ["train_epsilon"]),
        (["eval_epsilon=0.4"], ["eval_epsilon"]),
        (["epsilon=0"], []),
        (["epsilon=0.5"], []),
        (["attack.eval.epsilon=0.1"], []),
    ],
)
def test_an_epsilon_that_is_meant_as_a_fraction_is_refused_once(settings, keys):
    problems = problems_of(changed([], *settings)) if keys else []
    assert [problem.split(" ")[0] for problem in problems] == keys
    assert all("counts steps of 1/255 (got 0." in problem and "8/255 is 8" in problem for problem in problems)
    if not keys:
        validated(changed([], *settings))


def test_a_value_that_must_be_given_is_asked_for():
    (problem,) = problems_of(composed("+experiment=cifar10", "outliers=folder"))
    assert "outliers.path" in problem


@pytest.mark.parametrize("key", ["batch", "attack.eval", "paths.outputs", "debug"])
def test_a_part_taken_away_is_missed(key):
    cfg = changed([])
    parent, _, name = key.rpartition(".")
    (OmegaConf.select(cfg, parent) if parent else cfg).pop(name)
    assert problems_of(cfg) == [f"{key} is missing"]


@pytest.mark.parametrize(
    ("base", "settings", "told"),
    [
        ([], ["trainer.max_steps=-1"], ["training has no end: set trainer.max_epochs or trainer.max_steps"]),
        (
            ["attack=authors"],
            ["epsilon=1.5"],
            [
                f"attack.{part}.rounding=truncate requires epsilon and step_size in whole 1/255 steps"
                for part in ("train", "eval")
            ],
        ),
        (
            ["data=cifar10"],
            [],
            [
                "data=cifar10 is combined with the demo's outliers: "
                "use +experiment=cifar10, or choose outliers= and ood= too"
            ],
        ),
        (
            [],
            ["ood.far={_target_: aloe_lightning.data.NpyImages, path: far.npy}"],
            ["data=demo is combined with ood.far: use +experiment=cifar10"],
        ),
    ],
)
def test_what_each_key_alone_allows_and_the_whole_does_not_is_told(base, settings, told):
    assert problems_of(changed(base, *settings)) == told


def test_weights_from_a_file_need_no_end_of_training():
    assert validated(changed([], "trainer.max_steps=-1", "checkpoint=x.pt"))["checkpoint"] == "x.pt"


def test_a_fractional_epsilon_is_fine_without_rounding():
    assert validated(changed([], "epsilon=1.5"))["attack"]["train"]["epsilon"] == 1.5


def test_a_class_of_ones_own_keeps_its_own_keys():
    cfg = changed([])
    cfg.net = {"_target_": "outside.Net", "name": "mine", "layers": 3}
    assert validated(cfg)["net"] == {"_target_": "outside.Net", "name": "mine", "layers": 3}
    cfg.net = {"_target_": "outside.Net", "name": "mine", "layers": 3, "layer": 3}
    assert problems_of(cfg) == ["net.layer is unknown, did you mean 'layers'?"]


def test_a_class_that_cannot_be_imported_is_named():
    (problem,) = problems_of(changed([], "net._target_=absent_module.Net"))
    assert problem.startswith("net: cannot import 'absent_module.Net' (No module named 'absent_module')")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("trainer: {max_epoch: 3}", "trainer.max_epoch is unknown, did you mean 'max_epochs'?"),
        ("epsilonn: 3", "epsilonn is unknown, did you mean 'epsilon'?"),
        ("optim: {momentu: 0.5}", "optim.momentu is unknown, did you mean 'momentum'?"),
        ("detector: {odin: {etaa: 0.1}}", "detector.odin.etaa is unknown, did you mean 'eta'?"),
        ("evaluation: {max_id: many}", "evaluation.max_id: "),
    ],
)
def test_a_typo_in_an_experiment_file_of_ones_own_is_an_error(tmp_path, text, told):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\ndefaults: [cifar10]\n{text}\n")
    (problem,) = problems_of(composed(f"hydra.searchpath=[file://{tmp_path}]", "+experiment=mine"))
    assert problem.startswith(told)


def test_an_experiment_file_of_ones_own_without_a_typo_is_valid(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults: [cifar10]\ntrainer: {max_epochs: 3}\n"
    )
    content = content_of(f"hydra.searchpath=[file://{tmp_path}]", "+experiment=mine")
    assert content["trainer"]["max_epochs"] == 3
    assert content["net"]["depth"] == 100


def test_a_class_of_ones_own_gets_its_keys_and_no_others():
    content = validated(changed([], "detector.mine={_target_: outside.Neighbours, k: 3}"))
    assert content["detector"]["mine"] == {"_target_": "outside.Neighbours", "k": 3}
    (problem,) = problems_of(changed([], "detector.mine={_target_: outside.Neighbours, k: 0}"))
    assert problem.startswith("detector.mine.k: input should be greater than 0")


def test_a_net_of_ones_own_needs_a_name_for_the_records():
    cfg = changed([])
    cfg.net = {"_target_": "outside.Net", "layers": 3, "name": None}
    assert problems_of(cfg) == ["net.name is missing: records state it"]


def test_a_path_is_short_for_a_folder_or_an_array_of_images():
    ood = content_of("+experiment=custom", "data.train=a", "data.test=b", "+ood.far=pictures", "+ood.near=it.npy")[
        "ood"
    ]
    assert {name: (node["_target_"].rsplit(".")[-1], node["path"]) for name, node in ood.items()} == {
        "far": ("ImageFolder", "pictures"),
        "near": ("NpyImages", "it.npy"),
    }


def test_own_data_without_ood_sets_is_told_how_to_name_them():
    (problem,) = problems_of(composed("+experiment=custom", "data.train=a", "data.test=b"))
    assert problem.startswith("no OOD test set is given: 'ood=[textures]' names one, +ood.NAME=")


def test_did_you_mean_is_silent_where_nothing_is_near():
    assert did_you_mean("epsilom", ["seed", "epsilon"]) == ", did you mean 'epsilon'?"
    assert did_you_mean("xyzzy", ["seed", "epsilon"]) == ""
