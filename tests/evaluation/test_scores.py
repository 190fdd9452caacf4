"""The score file: keys, order and values survive; nothing half-written; no torch."""

import subprocess
import sys

import numpy as np
import pytest

from aloe_lightning.evaluation.scores import ScoreKey, Scores


@pytest.fixture
def scores():
    rng = np.random.default_rng(0)
    arrays = {
        ScoreKey(detector, dataset, condition): rng.normal(size=count)
        for dataset, count in (("id", 5), ("b", 4), ("a", 3))
        for detector in ("odin", "msp")
        for condition in ("clean", "attacked")
    }
    return Scores({**arrays, ScoreKey("msp", "id", "misclassified"): rng.normal(size=5)})


def test_the_file_gives_back_keys_order_and_values(scores, tmp_path):
    for _ in range(2):
        scores.save(tmp_path / "scores.npz")
    again = Scores.load(tmp_path / "scores.npz")
    assert list(again) == list(scores)
    assert all(np.array_equal(again[key], scores[key]) for key in scores)
    assert [path.name for path in tmp_path.iterdir()] == ["scores.npz"]


def test_names_in_the_file_are_detector_dataset_condition(scores, tmp_path):
    scores.save(tmp_path / "scores.npz")
    with np.load(tmp_path / "scores.npz", allow_pickle=False) as arrays:
        assert len(arrays.files) == 13
        assert np.array_equal(arrays["msp/id/misclassified"], scores["msp", "id", "misclassified"])
    assert str(ScoreKey("msp", "id", "clean")) == "msp/id/clean"
    assert ScoreKey.parse("msp/my/set/clean") == ("msp", "my/set", "clean")


def test_detectors_and_sets_keep_the_order_of_the_evaluation(scores):
    assert scores.detectors == ["odin", "msp"]
    assert scores.ood_sets == ["b", "a"]


def test_all_ood_sets_are_pooled(scores):
    expected = [*scores["msp", "b", "attacked"], *scores["msp", "a", "attacked"]]
    assert scores.pooled_ood("msp", "attacked").tolist() == expected


def test_whole_numbers_become_float64():
    assert Scores({ScoreKey("msp", "id", "clean"): np.arange(3)})["msp", "id", "clean"].dtype == np.float64


def test_it_imports_no_torch():
    code = "import sys, aloe_lightning.evaluation.scores; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
