"""The configuration: every file composes, the schema says what the code accepts, and a mistake is answered in words."""

import inspect
from pathlib import Path

import aloe_lightning.conf
import pytest
import yaml
from hydra.utils import get_class
from omegaconf import OmegaConf
from pytorch_lightning import Trainer

from aloe_lightning.config import schema_init as schema
from aloe_lightning.config.validation import nearest, validated
from aloe_lightning.data import BatchSizes
from aloe_lightning.errors import UserError
from aloe_lightning.evaluation.evaluate import EvaluationSettings
from aloe_lightning.tracking.loggers import wandb_logger
from composing import changed, composed

CONF = Path(aloe_lightning.conf.__file__).parent
EXPERIMENTS = sorted(file.stem for file in (CONF / "experiment").glob("*.yaml"))
CUSTOM = ["+experiment=own", "data.train=a", "data.test=b", "+ood.far=c"]


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
    content = content_of(*CUSTOM) if name == "own" else content_of(f"+experiment={name}")
    if "_" in name and not name.endswith("small"):
        data, objective = name.rsplit("_", 1)
        assert (content["data"]["name"], content["objective"]["name"]) == (data, objective)
        assert content["objective"]["_target_"].lower() == f"aloe_lightning.objectives.{objective}"
    assert content["study"].startswith(name.split("_")[0])


def test_there_is_an_experiment_for_each_data_set_and_objective():
    objectives = ("original", "oe", "adv", "aoe", "aloe")
    wanted = {f"{data}_{name}" for data in ("demo", "cifar10", "cifar100", "gtsrb") for name in objectives}
    assert wanted <= set(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_has_at_most_15_lines_and_stands_in_the_global_package(name):
    lines = (CONF / "experiment" / f"{name}.yaml").read_text().splitlines()
    assert len(lines) <= 15
    assert lines[0] == "# @package _global_"


@pytest.mark.parametrize("group", ["data", "net", "optim", "logger", "attack", "ood", "detector"])
def test_every_choice_of_a_group_composes(group):
    for file in sorted((CONF / group).glob("*.yaml")):
        base = ["+experiment=cifar10"] if group in ("data", "ood") and file.stem != "demo" else []
        if group == "data" and file.stem in ("folder", "npz"):
            base = CUSTOM
        node = content_of(*base, f"{group}={file.stem}")[group]
        assert set(yaml.safe_load(file.read_text())) - {"defaults"} <= set(node)


@pytest.mark.parametrize("name", ["original", "oe", "adv", "aoe", "aloe"])
def test_an_objective_is_built_by_the_class_of_its_name(name):
    node = content_of(f"objective={name}")["objective"]
    assert node["name"] == name
    assert node["_target_"].lower() == f"aloe_lightning.objectives.{name}"


def test_cifar10_aloe_is_the_papers_setting():
    content = content_of("+experiment=cifar10_aloe")
    expected = {
        "data": {
            "_target_": "aloe_lightning.data.CIFAR",
            "name": "cifar10",
            "num_classes": 10,
            "mean": pytest.approx([125.3 / 255, 123.0 / 255, 113.9 / 255], rel=1e-12),
            "std": pytest.approx([63.0 / 255, 62.1 / 255, 66.7 / 255], rel=1e-12),
            "augment": True,
            "verify": True,
        },
        "net": {"num_classes": 10, "depth": 100, "growth_rate": 12, "reduction": 0.5},
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
    assert content["net"]["mean"] == content["data"]["mean"]
    assert content["net"]["std"] == content["data"]["std"]
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
    assert all(node["verify"] for node in content["ood"].values())
    assert content["evaluation"]["max_id"] is content["evaluation"]["max_ood"] is None


def test_gtsrb_aloe_is_the_papers_setting():
    content = content_of("+experiment=gtsrb_aloe")
    data = content["data"]
    assert (data["num_classes"], data["augment"]) == (43, "offline")
    assert (data["per_class"], data["max_test"]) == (10_000, 10_000)
    assert (data["mean"], data["std"]) == ([0.3337, 0.3064, 0.3171], [0.2672, 0.2564, 0.2629])
    assert data["augment_outliers"], "outliers are cropped and flipped although signs are not"
    assert content["detector"]["odin"]["eta"] == 0.0004
    assert (content["trainer"]["max_epochs"], content["net"]["num_classes"]) == (10, 43)
    assert set(content["ood"]) == {"cifar10", "textures", "places365", "lsun_c", "lsun_r", "isun"}
    assert content["outliers"]["name"] == "300k"


def test_cifar100_differs_from_cifar10_in_the_data_and_odins_step():
    ten, hundred = (content_of(f"+experiment=cifar{classes}_aloe") for classes in (10, 100))
    assert hundred.pop("protocol") != ten.pop("protocol")
    assert (hundred.pop("group"), ten.pop("group")) == ("cifar100", "cifar10")
    assert hundred.pop("cell").rsplit("-", 1)[0] == ten.pop("cell").rsplit("-", 1)[0]
    assert hundred["detector"]["odin"].pop("eta") == 0.0028
    assert ten["detector"]["odin"].pop("eta") == 0.0014
    assert hundred["net"].pop("num_classes") == 100
    assert hundred["data"].pop("num_classes") == 100
    assert (hundred["data"].pop("name"), hundred.pop("study")) == ("cifar100", "cifar100")
    for part in (ten["net"], ten["data"]):
        part.pop("num_classes")
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
    assert (attacks["train"]["rounding"], attacks["train"]["batchnorm"]) == ("truncate", "train")
    assert (attacks["eval"]["rounding"], attacks["eval"]["name"], attacks["eval"]["steps"]) == (
        "truncate",
        "authors",
        10,
    )


def test_unverified_data_means_every_official_file_of_the_root():
    content = validated(changed(["+experiment=cifar10"], "data.verify=false"))
    assert content["ood"]["svhn"].get("verify", True) is False


# --- the schema says what the code accepts ---

LABEL_ONLY = {**schema.NETS, **schema.OBJECTIVES, **schema.OUTLIERS}
"""Nodes whose `name` is a label for records, which `build` leaves out."""


@pytest.mark.parametrize("path", sorted(schema.TARGETS))
def test_a_node_has_exactly_the_fields_that_its_class_accepts(path):
    accepted = set(inspect.signature(get_class(f"aloe_lightning.{path.replace('__', '.')}")).parameters)
    if path.startswith("objectives__"):
        accepted -= {"net", "optim", "attack"}
    fields = set(schema.TARGETS[path].model_fields) - {"target"}
    assert fields - ({"name"} if path in LABEL_ONLY else set()) == accepted - (
        {"name"} if path in LABEL_ONLY else set()
    )


@pytest.mark.parametrize("path", sorted(schema.TARGETS))
def test_a_field_that_may_be_left_out_may_be_left_out_of_the_class_too(path):
    parameters = inspect.signature(get_class(f"aloe_lightning.{path.replace('__', '.')}")).parameters
    for name, field in schema.TARGETS[path].model_fields.items():
        if name in parameters and not field.is_required():
            assert parameters[name].default == field.default


def test_the_fields_of_the_trainer_are_lightnings():
    assert set(schema.TrainerNode.model_fields) <= set(inspect.signature(Trainer).parameters)
    ours = {"logger", "callbacks", "default_root_dir", "enable_model_summary", "enable_progress_bar"}
    assert not set(schema.TrainerNode.model_fields) & (ours | {"use_distributed_sampler", "inference_mode"})


@pytest.mark.parametrize(
    ("node", "built"), [(schema.BatchNode, BatchSizes), (schema.EvaluationNode, EvaluationSettings)]
)
def test_plain_nodes_have_the_fields_of_their_dataclasses(node, built):
    assert set(node.model_fields) == set(inspect.signature(built).parameters)


def test_the_fields_of_wandb_are_the_loggers():
    parameters = set(inspect.signature(wandb_logger).parameters) - {"folder", "name", "group", "tags"}
    assert set(schema.WandbNode.model_fields) == parameters | {"kind", "artifact"}


def test_every_key_of_the_schema_is_in_the_composed_config():
    assert set(schema.Config.model_fields) == set(content_of())


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
        (["data.mean=[0.5,0.5]"], "data.mean", "[0.5, 0.5]"),
        (["trainer.precision=16"], "trainer.precision", "16"),
        (["logger.kind=cvs"], "logger", "cvs"),
    ],
)
def test_a_value_out_of_range_is_told_with_its_key_and_itself(overrides, key, value):
    problems = problems_of(changed([], *overrides))
    assert any(problem.startswith(key) and value in problem for problem in problems), problems


@pytest.mark.parametrize("epsilon", ["-1", "256", "1/255", "one", "nan"])
def test_an_epsilon_that_is_no_number_of_pixel_steps_is_told(epsilon):
    problems = problems_of(changed([], f"epsilon={epsilon}"))
    assert any(problem.startswith("epsilon: ") and epsilon in problem for problem in problems), problems


def test_a_value_that_must_be_given_is_asked_for():
    (problem,) = problems_of(composed("+experiment=cifar10", "outliers=folder"))
    assert "outliers.path" in problem


@pytest.mark.parametrize("key", ["batch", "optim.momentum", "attack.eval.steps"])
def test_a_part_taken_away_is_missed(key):
    cfg = changed([])
    parent, _, name = key.rpartition(".")
    (OmegaConf.select(cfg, parent) if parent else cfg).pop(name)
    assert problems_of(cfg) == [f"{key} is missing"]


@pytest.mark.parametrize(
    ("base", "settings", "told"),
    [
        ([], ["net.num_classes=7"], ["net.num_classes is 7, but data=demo has 10 classes"]),
        (
            ["+experiment=cifar100"],
            ["net.num_classes=10"],
            ["net.num_classes is 10, but data=cifar100 has 100 classes"],
        ),
        ([], ["trainer.max_steps=-1"], ["training has no end: set trainer.max_epochs or trainer.max_steps"]),
        (
            ["attack=authors"],
            ["epsilon=1.5"],
            [
                f"attack.{part}.rounding=truncate wants epsilon and step_size as whole 1/255 steps"
                for part in ("train", "eval")
            ],
        ),
        (
            ["data=cifar10"],
            [],
            [
                "data=cifar10 stands beside the demo's outliers: "
                "use +experiment=cifar10, or choose outliers= and ood= too"
            ],
        ),
        (
            [],
            ["ood.far={_target_: aloe_lightning.data.NpyImages, path: far.npy}"],
            ["data=demo stands beside ood.far: use +experiment=cifar10"],
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
    net = {"_target_": "mine.Net", "name": "mine", "layers": 3}
    cfg = changed([])
    cfg.net = net
    assert validated(cfg)["net"] == net


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
    content = validated(changed([], "detector.mine={_target_: their.Detector, k: 3}"))
    assert content["detector"]["mine"] == {"_target_": "their.Detector", "k": 3}


def test_a_net_of_ones_own_needs_a_name_for_the_records():
    assert problems_of(changed([], "net._target_=their.Net", "net.name=null")) == [
        "net.name is missing: records state it"
    ]


def test_a_path_is_short_for_a_folder_or_an_array_of_images():
    ood = content_of("+experiment=own", "data.train=a", "data.test=b", "+ood.far=pictures", "+ood.near=it.npy")["ood"]
    assert {name: (node["_target_"].rsplit(".")[-1], node["path"]) for name, node in ood.items()} == {
        "far": ("ImageFolder", "pictures"),
        "near": ("NpyImages", "it.npy"),
    }


def test_own_data_without_ood_sets_is_told_how_to_name_them():
    (problem,) = problems_of(composed("+experiment=own", "data.train=a", "data.test=b"))
    assert problem.startswith("no OOD test set is given: 'ood=[textures]' names one, +ood.NAME=")


def test_nearest_is_silent_where_nothing_is_near():
    assert nearest("epsilom", ["seed", "epsilon"]) == ", did you mean 'epsilon'?"
    assert nearest("xyzzy", ["seed", "epsilon"]) == ""
