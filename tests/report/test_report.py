import csv
import io
from dataclasses import replace
from statistics import mean

import numpy as np
import pytest

from aloe_lightning.evaluation.evaluate import Evaluation, SetScores
from aloe_lightning.evaluation.records import Cell, read_records, write_records
from aloe_lightning.evaluation.results import records_of, write_scores
from aloe_lightning.paper.methods import PAPER_METHODS, method_of, row_order
from aloe_lightning.report import write_report
from aloe_lightning.report.tables import by_ood_csv, markdown, tidy_csv, tidy_rows

CELL = Cell(
    dataset="cifar10", outliers="300k", net="small", objective="aloe", seed=0, train_epsilon=1, eval_epsilon=1,
    regime="paper", attack="none", protocol="0123abcd", objective_title="ALOE",
)  # fmt: skip
OBJECTIVES = ("original", "oe", "adv", "aoe", "aloe")


def evaluation(seed):
    rng = np.random.default_rng(seed)

    def scores(mean, count):
        return {d: {s: rng.beta(2 + mean, 2, count) for s in ("clean", "attacked")} for d in ("msp", "odin")}

    return Evaluation(
        SetScores(scores(1, 60), rng.random()), {n: SetScores(scores(0, 40), None) for n in ("a", "b", "c")}
    )


def cells(epsilons=(1, 2), seeds=(0,)):
    for objective in OBJECTIVES:
        for epsilon in epsilons:
            for seed in seeds:
                perturbed = objective in ("adv", "aoe", "aloe")
                budgets = {"train_epsilon": epsilon if perturbed else None, "eval_epsilon": epsilon}
                yield (
                    replace(CELL, objective=objective, seed=seed, **budgets),
                    evaluation(100 * OBJECTIVES.index(objective) + 10 * epsilon + seed),
                )


@pytest.fixture
def records():
    return [record for cell, scores in cells(seeds=(0, 1)) for record in records_of(scores, cell)]


def test_methods_are_objective_and_detector(records):
    names = {(r.objective, r.detector): method_of(r) for r in records if r.ood}
    assert names["original", "msp"] == "MSP"
    assert names["original", "odin"] == "ODIN"
    assert names["aloe", "msp"] == "ALOE"
    assert names["aloe", "odin"] == "ALOE+ODIN"
    assert row_order("ADV+ODIN") is None
    transfer = replace(next(r for r in records if r.objective == "aloe" and r.ood), train_epsilon=1, eval_epsilon=3)
    assert method_of(transfer) == "ALOE (trained at 1)"


def test_nets_of_other_budgets_are_rows_of_their_own(records):
    aloe = [r for r in records if r.objective == "aloe" and r.eval_epsilon == 1]
    other = [replace(r, train_epsilon=0, value=0.0) for r in aloe]
    rows = tidy_rows([*aloe, *other])
    assert {r.method for r in rows if r.table == "table1"} >= {"ALOE", "ALOE (trained at 0)"}
    assert {r.method for r in rows if r.table == "table4"} == {"ALOE", "ALOE (trained at 0)"}
    assert [r.value for r in rows if r.method == "ALOE"] == [r.value for r in tidy_rows(aloe) if r.method == "ALOE"]


def test_no_attacked_rows_without_a_budget(records):
    rows = tidy_rows([replace(r, eval_epsilon=0) for r in records if r.eval_epsilon == 1 and r.objective == "oe"])
    assert len(rows) == 2 * 3 + 1


def test_the_first_budget_is_one_that_attacks(records):
    rows = tidy_rows([*records, *(replace(r, eval_epsilon=0) for r in records if r.eval_epsilon == 2)])
    assert rows == tidy_rows(records)


def test_tidy_table_has_the_columns_and_rows_of_the_published_one(records, shared):
    published = (shared / "paper" / "tables.csv").read_text().splitlines()
    header = next(line for line in published if not line.startswith("#"))
    text = tidy_csv(tidy_rows(records))
    assert text.splitlines()[0] == header
    rows = list(csv.DictReader(io.StringIO(text)))
    methods = [m for m in PAPER_METHODS if m != "Mahalanobis"]
    assert list(dict.fromkeys(r["method"] for r in rows if r["table"] == "table1")) == methods
    assert {(r["table"], r["epsilon"]) for r in rows} == {
        ("table1", "0"),
        ("table1", "1"),
        ("table3", "2"),
        ("table4", "0"),
    }
    assert len(rows) == 8 * 3 * 3 + 5


def test_tidy_values_are_means_over_sets_and_seeds(records):
    rows = {(r.table, r.method, r.epsilon, r.metric): r.value for r in tidy_rows(records)}
    for table, epsilon, side in (("table1", 0, "none"), ("table1", 1, "both"), ("table3", 2, "both")):
        expected = [
            r.value for r in records
            if (r.objective, r.detector, r.side, r.metric) == ("oe", "odin", side, "auroc")
            and r.eval_epsilon == max(epsilon, 1)
        ]  # fmt: skip
        assert len(expected) == 6
        assert rows[table, "OE+ODIN", epsilon, "auroc"] == pytest.approx(100 * mean(expected))


def test_by_ood_table_has_every_set_and_side(records):
    rows = list(csv.DictReader(io.StringIO(by_ood_csv(records))))
    assert len(rows) == 5 * 2 * 2 * 4 * 3
    row = next(r for r in rows if (r["method"], r["epsilon"], r["side"], r["ood"]) == ("AOE+ODIN", "2", "id", "b"))
    wanted = ("aoe", "odin", 2, "id", "b", "aupr_in")
    expected = [
        r.value for r in records if (r.objective, r.detector, r.eval_epsilon, r.side, r.ood, r.metric) == wanted
    ]
    assert float(row["aupr_in"]) == pytest.approx(100 * mean(expected), abs=0.005)
    assert (row["num_id"], row["num_ood"]) == ("60", "40")


def test_markdown_shows_what_the_csv_holds(records):
    rows = tidy_rows(records)
    text = markdown(rows, "A caption.")
    line = next(line for line in text.splitlines() if line.startswith("| ALOE+ODIN"))
    shown = [cell.strip() for cell in line.strip("|").split("|")][1:]
    assert shown == [f"{r.value:.2f}" for r in rows if r.method == "ALOE+ODIN"]
    assert text.startswith("**CIFAR-10.** A caption.")


def study(folder, **kinds):
    for cell, scores in cells(**kinds):
        run = folder / f"{cell.objective}-{cell.eval_epsilon}-{cell.seed}"
        run.mkdir(parents=True)
        write_records(run / "records.jsonl", records_of(scores, cell))
        write_scores(run / "scores.npz", scores)


def test_a_study_leaves_tables_and_figure_and_names_runs_of_another_setting(tmp_path):
    study(tmp_path, epsilons=(1,))
    other = tmp_path / "other"
    other.mkdir()
    write_records(other / "records.jsonl", records_of(evaluation(9), replace(CELL, protocol="ffffffff")))
    report = write_report(tmp_path, read_records(tmp_path / "aloe-1-0" / "records.jsonl"))
    assert report.left_out == [other]
    assert sorted(p.name for p in report.files) == [
        "scores.pdf", "scores.png", "tables.csv", "tables.md", "tables_by_ood.csv",
    ]  # fmt: skip
    assert (tmp_path / "scores.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "scores.pdf").read_bytes().startswith(b"%PDF")
    assert [path.name for path in tmp_path.glob(".*")] == [".tables.lock"]
    assert (
        "60 in-distribution test images, OOD test sets a (40), b (40), c (40)" in (tmp_path / "tables.md").read_text()
    )


def test_a_study_with_missing_cells_is_still_tabulated(tmp_path):
    study(tmp_path, epsilons=(1,))
    (tmp_path / "aloe-1-0" / "records.jsonl").unlink()
    methods = {row.method for row in write_report(tmp_path, read_records(tmp_path / "oe-1-0" / "records.jsonl")).rows}
    assert "OE+ODIN" in methods
    assert "ALOE" not in methods


@pytest.mark.parametrize(
    ("other", "together"),
    [
        ({"pixels": "other"}, False),
        ({"outlier_pixels": "other"}, False),
        ({"protocol": "other"}, False),
        ({"objective": "original", "outlier_pixels": ""}, True),
        ({"seed": 1}, True),
        ({"seed": 1, "detectors": {"msp": "f"}}, True),
        ({"seed": 1, "detectors": {"msp": "f", "odin": "another"}}, False),
    ],
)
def test_only_runs_that_agree_stand_in_one_table(tmp_path, other, together):
    cell, settings = replace(CELL, pixels="a", outlier_pixels="b"), {"msp": "f", "odin": "g"}
    theirs = other.pop("detectors", settings)
    for name, one, found in (("first", cell, settings), ("second", replace(cell, **other), theirs)):
        (tmp_path / name).mkdir()
        scored = evaluation(0)
        for one_set in (scored.id, *scored.ood.values()):
            for detector in set(settings) - set(found):
                del one_set.scores[detector]
        write_records(tmp_path / name / "records.jsonl", records_of(scored, one, found))
        write_scores(tmp_path / name / "scores.npz", evaluation(0))
    report = write_report(tmp_path, read_records(tmp_path / "first" / "records.jsonl"))
    assert report.left_out == ([] if together else [tmp_path / "second"])


def test_tables_2_and_4_stand_in_the_csv_and_under_the_markdown():
    rng = np.random.default_rng(0)
    found = []
    for objective, robust in (("original", 0.25), ("aloe", 0.75)):
        scores = {
            d: {s: rng.random(50) for s in ("clean", "attacked", "misclassified")} for d in ("msp", "odin", "energy")
        }
        ood = {d: {s: rng.random(30) for s in ("clean", "attacked")} for d in scores}
        evaluated = Evaluation(SetScores(scores, 0.9, robust), {"a": SetScores(ood, None)})
        found += records_of(evaluated, replace(CELL, objective=objective))
    rows = tidy_rows(found)
    assert {(r.method, r.epsilon): r.value for r in rows if r.table == "table4"} == pytest.approx(
        {("Original", 0): 90, ("Original", 1): 25, ("ALOE", 0): 90, ("ALOE", 1): 75}
    )
    rejected = {r.method: r.value for r in rows if r.table == "table2"}
    assert list(rejected) == ["MSP", "ODIN", "ALOE", "ALOE+ODIN", "ALOE+Energy", "Energy"], (
        "further detectors come last"
    )
    expected = next(
        100 * r.value for r in found if (r.objective, r.detector, r.metric) == ("aloe", "odin", "one_minus_fpr95")
    )
    assert rejected["ALOE+ODIN"] == pytest.approx(expected)
    text = markdown(rows, "A caption.")
    assert "Accuracy under PGD on the classifier, ε = 1/255: Original 25.00, ALOE 75.00." in text
    assert f"ALOE+ODIN {expected:.2f}" in text.split("rejected as OOD")[1]
