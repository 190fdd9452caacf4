import numpy as np
import pytest

from aloe_lightning.errors import UserError
from aloe_lightning.evaluation.evaluate import Evaluation, SetScores
from aloe_lightning.evaluation.records import Cell, read_records, write_records
from aloe_lightning.evaluation.results import SIDES, records_of, write_scores
from aloe_lightning.metrics import ood_metrics


@pytest.fixture
def cell():
    return Cell(
        dataset="demo", outliers="demo", net="small", objective="aloe", seed=0, train_epsilon=1, eval_epsilon=1,
        regime="paper", attack="none", protocol="0123abcd", objective_title="ALOE",
    )  # fmt: skip


@pytest.fixture
def evaluation():
    rng = np.random.default_rng(0)

    def scores(mean, count):
        return {"msp": {"clean": rng.normal(mean, 1, count), "attacked": rng.normal(0.5, 1, count)}}

    return Evaluation(
        SetScores(scores(2, 50), 0.9), {"a": SetScores(scores(0, 30), None), "b": SetScores(scores(1, 40), None)}
    )


def test_a_record_for_every_detector_set_side_and_metric(cell, evaluation):
    records = records_of(evaluation, cell)
    assert len(records) == 2 * 4 * 6 + 1
    known, novel = evaluation.id.scores["msp"], evaluation.ood["b"].scores["msp"]
    for side, (id_state, ood_state) in SIDES.items():
        expected = ood_metrics(known[id_state], novel[ood_state])
        found = {r.metric: r.value for r in records if r.ood == "b" and r.side == side}
        assert {name: found[name] for name in expected} == expected
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


def test_raw_scores_are_kept_to_the_last_bit(evaluation, tmp_path):
    write_scores(tmp_path / "scores.npz", evaluation)
    with np.load(tmp_path / "scores.npz", allow_pickle=False) as arrays:
        assert len(arrays.files) == 3 * 2
        assert np.array_equal(arrays["msp/id/attacked"], evaluation.id.scores["msp"]["attacked"])
        assert np.array_equal(arrays["msp/b/clean"], evaluation.ood["b"].scores["msp"]["clean"])


def test_table_2_is_the_share_that_the_threshold_of_95_percent_rejects(cell):
    """Against the definition, by hand: the threshold that accepts 95 of 100 clean in-distribution images."""
    clean = np.arange(100) / 100  # the threshold lies between 0.04 and 0.05
    misled = np.array([0.0, 0.01, 0.04, 0.05, 0.06, 0.9, 0.95, 0.99])
    scores = {"msp": {"clean": clean, "attacked": clean, "misclassified": misled}}
    found = records_of(Evaluation(SetScores(scores, 0.9, 0.25), {}), cell)
    values = {(r.metric, r.side, r.detector): r.value for r in found}
    assert values == {
        ("one_minus_fpr95", "id", "msp"): 3 / 8,
        ("accuracy", "none", ""): 0.9,
        ("accuracy", "id", ""): 0.25,
    }
