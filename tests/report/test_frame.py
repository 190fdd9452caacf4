"""Records -> the frame of the tables: places, means, methods, clean numbers of every net, the paper's numbers."""

from statistics import mean

import pytest
from synthetic_runs import DETECTORS, OBJECTIVES, PERTURBED, cell, write_run

from aloe_lightning.paper.methods import PAPER_METHODS
from aloe_lightning.report.frame import COLUMNS, records_frame, table_frame
from aloe_lightning.report.runs import collect


def framed(folder):
    return table_frame(records_frame(collect(folder).groups))


def values(frame, **place):
    """(title, epsilon, metric) -> value of the rows in a place."""
    for name, value in place.items():
        frame = frame[frame[name] == value]
    return {(row.method.title, row.epsilon, row.metric): row.value for row in frame.itertuples()}


def expected(records, detector, side, metric):
    return 100 * mean(r.value for r in records if (r.detector, r.side, r.metric) == (detector, side, metric))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two budgets and seeds; the records of each run by objective, budget and seed."""
    folder = tmp_path_factory.mktemp("study")
    runs = {
        (objective, epsilon, seed): write_run(
            folder / f"{objective}{epsilon}{seed}", cell(objective, eval_epsilon=epsilon, seed=seed), number
        )
        for number, (objective, epsilon, seed) in enumerate(
            (o, e, s) for o in OBJECTIVES for e in (1, 2) for s in (0, 1)
        )
    }
    return framed(folder), runs


def test_the_frame_has_a_row_for_each_number(study):
    frame, _ = study
    assert [name for name in frame.columns if name not in ("budget", "margin")] == COLUMNS
    header = "table,dataset,method,trained_at,epsilon,metric,value,low,high,std,seeds,published,difference"
    assert ",".join(COLUMNS) == header
    assert not frame.duplicated(["table", "dataset", "method", "trained_at", "epsilon", "metric"]).any()
    counts = {(table, epsilon): len(rows) for (table, epsilon), rows in frame.groupby(["table", "epsilon"])}
    assert counts == {
        ("table1", 0): 9 * 3, ("table1", 1): 9 * 3, ("table2", 1): 9, ("table3", 0): 4 * 3, ("table3", 2): 9 * 3,
        ("table4", 0): 5 + 3, ("table4", 1): 5, ("table4", 2): 5,
    }  # fmt: skip
    methods = list(dict.fromkeys(frame[frame.table == "table1"].method))
    assert methods == list(PAPER_METHODS[:9])


def test_values_are_means_over_sets_then_seeds(study):
    frame, runs = study
    for table, epsilon, side in (("table1", 1, "both"), ("table3", 2, "both")):
        by_seed = [expected(runs["oe", epsilon, seed], "odin", side, "auroc") for seed in (0, 1)]
        assert values(frame, table=table)["OE+ODIN", epsilon, "auroc"] == pytest.approx(mean(by_seed))
    row = next(r for r in frame.itertuples() if (r.method.title, r.epsilon, r.metric) == ("OE+ODIN", 1, "auroc"))
    by_seed = [expected(runs["oe", 1, seed], "odin", "both", "auroc") for seed in (0, 1)]
    assert (row.seeds, row.std) == (2, pytest.approx(abs(by_seed[0] - by_seed[1]) / 2**0.5))
    assert frame.low.isna().all()
    assert frame.high.isna().all()
    assert frame.margin.equals(frame["std"])


def test_clean_numbers_are_there_for_every_net(study):
    """Objectives that perturb nothing have one net for all budgets."""
    frame, runs = study
    for table, metric, detector in (("table3", "auroc", "msp"), ("table4", "accuracy", "")):
        clean = frame[
            (frame.table == table) & (frame.epsilon == 0) & (frame.trained_at == 2) & (frame.metric == metric)
        ]
        found = {row.method.title: row.value for row in clean.itertuples() if row.method.detector == detector}
        assert found == {
            title: pytest.approx(mean(expected(runs[objective, 2, s], detector, "none", metric) for s in (0, 1)))
            for objective, title in zip(PERTURBED, ("ADV", "AOE", "ALOE"), strict=True)
        }
    oe = frame[(frame.epsilon == 0) & (frame.metric == "auroc") & frame.method.map(lambda m: m.title == "OE")]
    assert list(oe.table) == ["table1"]
    assert oe.trained_at.isna().all()
    assert oe.value.item() == pytest.approx(
        mean(expected(runs["oe", 1, seed], "msp", "none", "auroc") for seed in (0, 1))
    )


def test_published_numbers_are_those_of_the_same_place(study):
    frame, _ = study
    compared = frame[frame.published.notna()]
    assert set(compared.table) == {"table1", "table2", "table3", "table4"}
    assert (compared.difference == compared.value - compared.published).all()
    assert not ((compared.table == "table3") & (compared.epsilon == 0)).any(), "the paper's clean nets are trained at 1"
    assert set(compared[compared.table == "table4"].epsilon) == {0, 1}


def test_a_net_that_is_evaluated_at_other_budgets_is_one_method(tmp_path):
    for epsilon in (1, 2, 3):
        write_run(tmp_path / f"swept{epsilon}", cell(eval_epsilon=epsilon, train_epsilon=1), epsilon)
    write_run(tmp_path / "own", cell(eval_epsilon=3), 9)
    write_run(tmp_path / "oe", cell("oe", eval_epsilon=3), 10)
    frame = framed(tmp_path)
    msp = frame[(frame.metric == "auroc") & frame.method.map(lambda method: method.detector == "msp")]
    assert [(row.method.title, row.table, row.epsilon) for row in msp.itertuples()] == [
        ("OE", "table1", 0), ("ALOE (trained at 1)", "table1", 0), ("ALOE (trained at 1)", "table1", 1),
        ("OE", "table3", 3), ("ALOE", "table3", 0), ("ALOE", "table3", 3),
        ("ALOE (trained at 1)", "table3", 2), ("ALOE (trained at 1)", "table3", 3),
    ]  # fmt: skip
    compared = msp[msp.published.notna()]
    assert [(row.method.title, row.epsilon) for row in compared.itertuples()] == [
        ("OE", 0), ("ALOE (trained at 1)", 0), ("ALOE (trained at 1)", 1), ("OE", 3), ("ALOE", 3),
    ], "the paper's nets are trained at the budget that attacks them"  # fmt: skip


def test_two_detectors_of_one_title_are_two_rows(tmp_path):
    write_run(tmp_path / "original", cell("original"), detectors=("msp", "odin", "odin_2"))
    frame = framed(tmp_path)
    assert [method.title for method in dict.fromkeys(frame[frame.table == "table1"].method)] == [
        "MSP", "ODIN", "ODIN (odin_2)",
    ]  # fmt: skip
    assert set(frame[frame.published.notna()].method.map(str)) == {"MSP", "ODIN", "Original"}


def test_outside_objectives_and_detectors_are_called_by_their_titles(tmp_path):
    run = cell("mine", dataset="own", objective_title="Mine (v2)")
    write_run(tmp_path / "mine", run, detectors=("msp", "knn"), titles={"msp": "MSP", "knn": "KNN+"})
    frame = framed(tmp_path)
    assert list(dict.fromkeys(frame.method.map(str))) == ["Mine (v2)", "Mine (v2)+KNN+"]
    assert frame.published.isna().all()
    assert frame.trained_at.isna().all()


def test_combinations_that_the_papers_tables_lack_are_hidden(tmp_path):
    for objective in ("original", "adv"):
        write_run(tmp_path / objective, cell(objective), detectors=tuple(DETECTORS))
    frame = framed(tmp_path)
    titles = ["MSP", "ODIN", "Mahalanobis", "ADV", "ADV+Energy", "ADV+ODIN (odin_2)", "Energy", "ODIN (odin_2)"]
    assert list(dict.fromkeys(frame[frame.table == "table2"].method.map(str))) == titles


def test_a_seed_that_lacks_the_first_budget_adds_nothing_to_its_numbers(tmp_path):
    """Seed 1 is not done at epsilon 1: its nets of epsilon 3 are not the clean ones of the first budget."""
    runs = {
        (epsilon, seed): write_run(
            tmp_path / f"{epsilon}{seed}", cell(dataset="own", eval_epsilon=epsilon, seed=seed), n
        )
        for n, (epsilon, seed) in enumerate(((1, 0), (3, 0), (3, 1)))
    }
    frame = framed(tmp_path)
    rows = {
        (row.table, row.epsilon): row
        for row in frame.itertuples()
        if (row.method.title, row.metric) == ("ALOE", "auroc")
    }
    clean = rows["table1", 0]
    assert (clean.seeds, clean.value) == (1, pytest.approx(expected(runs[1, 0], "msp", "none", "auroc")))
    assert (rows["table3", 3].seeds, rows["table3", 0].seeds) == (2, 2)


def test_no_attacked_rows_without_a_budget(tmp_path):
    write_run(tmp_path / "oe", cell("oe", eval_epsilon=0))
    assert set(values(framed(tmp_path))) == {
        *((method, 0, metric) for method in ("OE", "OE+ODIN") for metric in ("fpr95", "detection_error", "auroc")),
        ("OE", 0, "accuracy"),
    }


def test_the_first_budget_is_one_that_attacks(tmp_path):
    for number, epsilon in enumerate((0, 2, 4)):
        write_run(tmp_path / f"{epsilon}", cell("oe", dataset="own", eval_epsilon=epsilon), number)
    frame = framed(tmp_path)
    assert {(row.table, row.epsilon) for row in frame.itertuples()} == {
        ("table1", 0), ("table1", 2), ("table2", 2), ("table3", 4), ("table4", 0), ("table4", 2), ("table4", 4),
    }  # fmt: skip
