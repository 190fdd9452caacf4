import subprocess
import sys

import numpy as np
import pytest

from aloe_lightning.errors import UserError
from aloe_lightning.evaluation.evaluate import Evaluation
from aloe_lightning.evaluation.records import SIDES, Cell, read_records, records_of, write_records
from aloe_lightning.evaluation.scores import ScoreKey, Scores
from aloe_lightning.metrics import ood_metrics


@pytest.fixture
def cell():
    return Cell(
        dataset="demo", outliers="demo", net="small", objective="aloe", seed=0, train_epsilon=1, eval_epsilon=1,
        regime="paper", attack="PGD, 10 steps of 1/255, random start, rounding none", protocol="0123abcd",
        objective_title="ALOE",
    )  # fmt: skip


@pytest.fixture
def evaluation():
    rng = np.random.default_rng(0)

    arrays = {
        ScoreKey("msp", dataset, condition): rng.normal(mean, 1, count)
        for dataset, clean_mean, count in (("id", 2, 50), ("a", 0, 30), ("b", 1, 40))
        for condition, mean in (("clean", clean_mean), ("attacked", 0.5))
    }
    return Evaluation(scores=Scores(arrays), accuracy=0.9)


def test_a_record_for_every_detector_set_side_and_metric(cell, evaluation):
    records = records_of(evaluation, cell)
    assert len(records) == 2 * 4 * 6 + 1
    for side, (id_condition, ood_condition) in SIDES.items():
        expected = ood_metrics(
            evaluation.scores["msp", "id", id_condition], evaluation.scores["msp", "b", ood_condition]
        )
        values = {r.metric: r.value for r in records if r.ood == "b" and r.side == side}
        assert {name: values[name] for name in expected} == expected
    assert {(r.num_id, r.num_ood) for r in records if r.ood == "a"} == {(50, 30)}
    assert [(r.value, r.ood, r.detector) for r in records if r.metric == "accuracy"] == [(0.9, "", "")]


def test_sides_attack_what_they_say():
    assert SIDES == {
        "none": ("clean", "clean"),
        "id": ("attacked", "clean"),
        "ood": ("clean", "attacked"),
        "both": ("attacked", "attacked"),
    }


def test_records_come_back_and_a_second_write_doubles_nothing(cell, evaluation, tmp_path):
    records = records_of(evaluation, cell)
    for _ in range(2):
        write_records(tmp_path / "records.jsonl", records)
    assert read_records(tmp_path / "records.jsonl") == records
    assert [p.name for p in tmp_path.iterdir()] == ["records.jsonl"]


@pytest.mark.parametrize(("line", "reason"), [("{", "not JSON"), ('{"a": 1}', "not a record"), ("[1]", "not a record")])
def test_a_broken_line_is_named(cell, evaluation, tmp_path, line, reason):
    path = tmp_path / "records.jsonl"
    write_records(path, records_of(evaluation, cell)[:2])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UserError, match=f"line 3: {reason}"):
        read_records(path)


def test_records_state_titles_and_fingerprints_of_detectors(cell, evaluation):
    record = records_of(evaluation, cell, {"msp": "0123"}, {"msp": "MSP"})[0]
    assert (record.detector, record.detector_title, record.detector_settings) == ("msp", "MSP", "0123")


def test_records_are_read_without_torch():
    code = "import sys, aloe_lightning.evaluation.records; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_table_2_is_the_share_that_the_threshold_of_95_percent_rejects(cell):
    """Against the definition, by hand: the threshold that accepts 95 of 100 clean in-distribution images."""
    clean = np.arange(100) / 100  # the threshold lies between 0.04 and 0.05
    misclassified = np.array([0.0, 0.01, 0.04, 0.05, 0.06, 0.9, 0.95, 0.99])
    conditions = {"clean": clean, "attacked": clean, "misclassified": misclassified}
    scores = Scores({ScoreKey("msp", "id", condition): values for condition, values in conditions.items()})
    records = records_of(Evaluation(scores=scores, accuracy=0.9, robust_accuracy=0.25), cell)
    values = {(r.metric, r.side, r.detector): r.value for r in records}
    assert values == {
        ("one_minus_fpr95", "id", "msp"): 3 / 8,
        ("accuracy", "none", ""): 0.9,
        ("accuracy", "id", ""): 0.25,
    }
