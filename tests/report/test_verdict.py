"""The verdict: the fate of each method by rule, the sentence, the ranks."""

import pytest
from synthetic_runs import cell, write_run

from aloe_lightning.paper.methods import PAPER_METHODS, Method
from aloe_lightning.report import report
from aloe_lightning.report.frame import records_frame, table_frame
from aloe_lightning.report.runs import collect
from aloe_lightning.report.verdict import (
    AT_CHANCE,
    BELOW,
    KEPT,
    MOST_LOST,
    WEAK,
    Change,
    Estimate,
    Verdict,
    verdicts_of,
)

METHODS = {method.title: method for method in PAPER_METHODS if method.detector}


def change(title, clean, attacked, margin=0.0):
    ends = [None if v is None else Estimate(v, v - margin, v + margin) for v in (clean, attacked)]
    return Change(METHODS.get(title) or Method(title, "msp", title, "MSP"), *ends)


@pytest.mark.parametrize(
    ("clean", "attacked", "margin", "fate"),
    [
        (96.3, 0.5, 0, BELOW),
        (96.3, 48.0, 1.9, BELOW),
        (96.3, 48.0, 2.0, AT_CHANCE),
        (96.3, 51.9, 2.0, AT_CHANCE),
        (90.0, 69.9, 1.0, MOST_LOST),  # 40 over chance, 20.1 lost
        (90.0, 70.0, 1.0, KEPT),
        (97.0, 85.9, 1.0, KEPT),
        (90.0, 93.0, 1.0, KEPT),
        (52.0, 10.0, 2.0, WEAK),
        (52.1, 10.0, 2.0, BELOW),
    ],
)
def test_the_fate_follows_from_the_intervals_and_the_margin_over_chance(clean, attacked, margin, fate):
    assert change("MSP", clean, attacked, margin).fate == fate


def test_the_sentence_names_who_falls_most_and_who_holds():
    changes = [change("MSP", 96.3, 0.5, 1), change("OE", 99.0, 60.0, 1), change("ALOE", 97.0, 85.9, 1)]
    verdict = Verdict("demo", 3, changes)
    assert verdict.headline == (
        "demo: under an attack of 3/255 on both sides, MSP falls from 96.3 to 0.5 % AUROC: below chance; "
        "ALOE keeps 85.9 of 97.0."
    )
    assert verdict.lines == [
        "Below chance: MSP (96.3 → 0.5).",
        "Lost more than half of the margin over chance: OE (99.0 → 60.0).",
        "Kept at least half of the margin over chance: ALOE (97.0 → 85.9).",
    ]


def test_the_sentence_admits_what_intervals_do_not_tell_apart_and_that_nothing_holds():
    changes = [change("MSP", 96.3, 0.5, 1), change("ALOE", 97.0, 85.9, 1), change("ALOE+ODIN", 99.0, 84.0, 1)]
    assert Verdict("demo", 3, changes).headline.endswith(
        "ALOE keeps 85.9 of 97.0 (no clear difference from ALOE+ODIN)."
    )
    fallen = Verdict("demo", 3, [change("MSP", 96.3, 0.5, 1), change("OE", 99.0, 60.0, 1)])
    assert fallen.headline.endswith(
        "; even the best, OE, keeps only 60.0 of 99.0 (lost more than half of the margin over chance)."
    )
    one = Verdict("demo", 3, [change("MSP", 96.3, 0.5, 1)])
    assert one.headline.endswith("both sides, MSP falls from 96.3 to 0.5 % AUROC: below chance.")
    better = Verdict("demo", 3, [change("MSP", 90.0, 91.0, 1)])
    assert better.headline.endswith("both sides, MSP goes from 90.0 to 91.0 % AUROC.")


def test_without_an_attack_the_best_is_named():
    verdict = Verdict("demo", 0, [change("MSP", 96.3, None), change("OE", 99.0, None)])
    assert verdict.headline == "demo: not attacked. Clean, OE is best with 99.0 % AUROC."
    assert verdict.lines == []
    assert verdict.ranks() == {}


def test_equal_numbers_share_the_better_rank():
    changes = [change("MSP", 90, 10), change("OE", 99, 10), change("ALOE", 95, 80), change("ADV", 95, 5)]
    ranks = {str(method): pair for method, pair in Verdict("demo", 3, changes).ranks().items()}
    assert ranks == {"MSP": (4, 2), "OE": (1, 2), "ALOE": (2, 1), "ADV": (2, 4)}


def test_the_verdicts_are_on_the_numbers_of_table_1_with_their_intervals(tmp_path):
    for number, (objective, epsilon) in enumerate((o, e) for o in ("oe", "aloe") for e in (1, 2)):
        write_run(tmp_path / f"{objective}{epsilon}", cell(objective, eval_epsilon=epsilon), number)
    write_run(tmp_path / "own", cell("oe", dataset="own", eval_epsilon=3), 9)
    frame = table_frame(records_frame(collect(tmp_path).groups), intervals=True)
    verdicts = verdicts_of(frame)
    assert [(verdict.dataset, verdict.epsilon) for verdict in verdicts] == [("CIFAR-10", 1), ("own", 3)]
    rows = frame[(frame.table == "table1") & (frame.metric == "auroc") & (frame.dataset == "CIFAR-10")]
    assert len(rows) == 2 * 2 * 2
    for row in rows.itertuples():
        (found,) = (c for c in verdicts[0].changes if c.method == row.method)
        assert (found.attacked if row.epsilon else found.clean) == (row.value, row.low, row.high)


def test_several_seeds_count_by_their_deviation(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / f"oe{seed}", cell("oe", seed=seed), seed)
    frame = table_frame(records_frame(collect(tmp_path).groups), intervals=True)
    row = frame[(frame.table == "table1") & (frame.metric == "auroc") & (frame.epsilon == 1)].iloc[0]
    (verdict,) = verdicts_of(frame)
    assert verdict.changes[0].attacked == (row.value, row.value - row["std"], row.value + row["std"])


def test_a_budget_of_table_3_has_a_verdict_too(tmp_path):
    """The paper's data without an attack at its first budget: the least budget is that of the verdict."""
    for objective in ("oe", "aloe"):
        write_run(tmp_path / objective, cell(objective, eval_epsilon=2), 5)
    (verdict,) = verdicts_of(table_frame(records_frame(collect(tmp_path).groups)))
    assert verdict.epsilon == 2
    assert all(change.attacked for change in verdict.changes)


def test_the_report_opens_with_the_verdict_and_its_chart(tmp_path):
    write_run(tmp_path / "oe", cell("oe", dataset="own"), 3)
    files = {path.name: path for path in report(tmp_path, tmp_path / "out")}
    (verdict,) = verdicts_of(table_frame(records_frame(collect(tmp_path).groups), intervals=True))
    page, text = files["report.html"].read_text(), files["report.md"].read_text()
    for whole, chart, table in ((page, "<svg", "<table"), (text, "](verdict.png)", "\n| ")):
        assert 0 < whole.index(verdict.headline) < whole.index(chart) < whole.index(table)
    assert files["verdict.png"].read_bytes().startswith(b"\x89PNG")
