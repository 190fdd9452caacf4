"""Values on the command line of every odd kind: what was typed is what is used, or one line that names the key."""

import copy
import shlex

import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from aloe_lightning.cli.main import normalised, quoted
from aloe_lightning.config.validation import validated
from aloe_lightning.errors import UserError


@pytest.fixture(scope="module")
def composed():
    GlobalHydra.instance().clear()
    with initialize_config_module("aloe_lightning.conf", version_base="1.3"):
        return compose("config", ["objective=oe"])


@pytest.fixture
def understood(composed):
    """Return the validated value of a key that is set on the command line."""

    def run(key, text):
        override = OverridesParser.create().parse_override(quoted(f"{key}={text}"))
        config = copy.deepcopy(composed)
        OmegaConf.update(config, key, override.value(), merge=False)
        value = validated(config)
        for part in key.split("."):
            value = value[part]
        return value

    return run


@pytest.fixture
def answer(command, monkeypatch, capsys):
    """Return the exit code, the last line on stderr and the cells that would be run."""
    cells = []
    monkeypatch.setattr("aloe_lightning.run.run_cell", lambda config, folder: cells.append((config, folder)))
    monkeypatch.setattr("aloe_lightning.cli.sweep.missing_cells", lambda words, started: [])
    for key in ("ALOE_DATA", "ALOE_OUTPUTS"):
        monkeypatch.delenv(key, raising=False)

    def run(*words):
        code = 0
        try:
            command("objective=oe", *words)
        except SystemExit as end:
            code = end.code
        return code, (["", *capsys.readouterr().err.strip().splitlines()])[-1], cells

    yield run
    GlobalHydra.instance().clear()


TEXTS = [
    "a/b",
    "a b",
    "it's",
    "a=b",
    "ü 写",
    "100%",
    "a#b",
    'a"b',
    "a~b",
    "a:b",
    "a*b",
    "a@b",
    "a+b",
    "a;b",
    "a&b",
    "-a",
]


@pytest.mark.parametrize("text", [*TEXTS, "epoch=3-step=4.ckpt", "my files/a b"])
@pytest.mark.parametrize("key", ["study", "checkpoint"])
def test_a_text_is_the_text_that_was_typed(understood, key, text):
    assert understood(key, text) == text


@pytest.mark.parametrize("text", ["a,b", "[x]", "{a: 1}", "$x"])
def test_a_quoted_text_may_have_characters_of_lists(understood, text):
    assert understood("study", f"'{text}'") == text


@pytest.mark.parametrize("folder", ["my results/a b", "out=1 ü"])
def test_results_are_in_the_folder_that_was_typed(answer, folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    _, _, cells = answer(f"paths.outputs={folder}", "hydra.job.chdir=true")
    config, place = cells[0]
    assert place == tmp_path / folder / "demo" / config["cell"]


USED = {
    ("epsilon", "'2'"): 2.0,
    ("epsilon", ".5"): 0.5,
    ("epsilon", "01"): 1.0,
    ("epsilon", "255"): 255.0,
    ("seed", "8.0"): 8,
    ("trainer.fast_dev_run", "true"): True,
    ("trainer.fast_dev_run", "3"): 3,
    ("trainer.limit_train_batches", "2.0"): 2,
    ("trainer.limit_train_batches", "0.5"): 0.5,
    ("trainer.precision", "bf16-mixed"): "bf16-mixed",
    ("evaluation.max_ood", "1e1"): 10,
}


@pytest.mark.parametrize(("key", "text"), USED)
def test_a_number_is_the_number_that_was_typed(understood, key, text):
    value = understood(key, text)
    assert (value, type(value)) == (USED[key, text], type(USED[key, text]))


NUMBERS = ["nan", "inf", "-1", "true", "[1]", "null"]
REFUSED = [(key, text) for key in ("epsilon", "optim.lr", "batch.inliers", "seed") for text in NUMBERS]
REFUSED += [("epsilon", text) for text in ("8/255", "256", "1e400", "0x10", "one")]
REFUSED += [("trainer.precision", text) for text in ("bf16", "16", "32", "'32'", "fp16", "half", "16-true")]
REFUSED += [("trainer.fast_dev_run", text) for text in ("-1", "1.5", "nan")]
REFUSED += [("trainer.limit_train_batches", text) for text in ("0", "-1", "1.5", "nan")]
REFUSED += [("trainer.max_steps", "0"), ("checkpoint_seconds", "inf"), ("trainer.gradient_clip_val", "0")]
REFUSED += [("study", text) for text in ("1", "null", "[a]", "..", "../x", "''")]
REFUSED += [("evaluation.max_id", "0"), ("attack.eval.steps", "-1"), ("attack.eval.step_size", "nan")]


@pytest.mark.parametrize(("key", "text"), REFUSED)
def test_another_value_is_refused_with_its_key(understood, key, text):
    with pytest.raises(UserError) as refusal:
        understood(key, text)
    assert str(refusal.value).startswith("config: ")
    assert key in str(refusal.value)
    assert "\n" not in str(refusal.value)


WORDS = {
    ("ood.x=/a",): "+ood.x=/path/to/images adds a test set",
    ("ood.my-set=/a",): "+ood.my-set=/path/to/images adds a test set",
    ("+ood.id=/a",): "an OOD set cannot be called 'id'",
    ("study=a,b",): "quote the value",
    ("--epsilon=1",): "epsilon=VALUE",
    ("--epsilon", "1"): "epsilon=VALUE",
    ("hydra.run.dir=elsewhere",): "set paths.outputs= or study=",
    ("-m", "hydra.sweep.dir=elsewhere"): "set paths.outputs= or study=",
    ("epsilon =1",): "quote a value with such characters twice",
    ("epsilon",): "missing EQUAL",
}


@pytest.mark.parametrize("words", WORDS)
def test_words_that_are_no_override_are_answered_in_one_line(answer, words):
    code, line, cells = answer(*words)
    assert code == 2
    assert line.startswith("aloe_lightning: error: ")
    assert WORDS[words] in line
    assert cells == []


@pytest.mark.parametrize(
    "word", ["a=[x,y]", "a=1,2", "a='b=c'", 'a="b"', "a=${b}", "a=range(1,3)", "~a", "+a={b:1}", "a="]
)
def test_words_of_hydras_grammar_stay_as_they_are(word):
    assert normalised([word]) == [word]


def test_all_missing_sets_of_a_sweep_are_named_at_once_before_a_cell(answer):
    code, line, cells = answer("-m", "+sweep=table1", "objective=original,aloe", "paths.data=/no where")
    assert (code, cells) == (2, [])
    assert line.count("CIFAR-10 (") == 1
    names = line.split("prepare ")[1].split(" --root")[0].split()
    assert sorted(names) == sorted(
        [
            "gtsrb",
            "cifar10",
            "cifar100",
            "random_images_300k",
            "svhn",
            "textures",
            "places365",
            "lsun_c",
            "lsun_r",
            "isun",
        ]
    )
    assert f"--root {shlex.quote('/no where')}" in line


def test_outliers_that_no_objective_uses_are_not_missed(answer):
    _, line, _ = answer("-m", "+experiment=cifar10", "objective=original,adv", "paths.data=/nowhere")
    assert "300K" not in line
    assert "CIFAR-10 (" in line
