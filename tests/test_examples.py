"""The examples of CONTRIBUTING, from outside the package: training, evaluation, table, report, and "done before"."""

import csv
import re
from pathlib import Path

import pytest

from aloe_lightning.report.__main__ import main as report
from test_end_to_end import TINY

EXTEND = Path(__file__).resolve().parents[1] / "examples" / "extend"
WALKS = {
    "margin": ["objective=oe", "+detector.margin={_target_: margin.Margin}"],
    "squared_exposure": ["objective._target_=squared_exposure.SquaredExposure", "objective.name=squared"],
    "checkerboards": ["objective=oe", "+ood.boards={_target_: checkerboards.Checkerboards, count: 12}"],
    "random_corner": [
        *("objective=oe", "~attack.eval"),
        "+attack.eval={_target_: random_corner.RandomCorner, epsilon: ${eval_epsilon}, tries: 2}",
    ],
}
METHODS = {"margin": "OE+Margin", "squared_exposure": "SquaredExposure", "checkerboards": "OE", "random_corner": "OE"}


def test_every_example_has_its_walk():
    assert {file.stem for file in EXTEND.glob("*.py")} == set(WALKS)


@pytest.mark.parametrize("name", WALKS)
def test_an_example_goes_through_training_evaluation_table_report_and_is_done_before(
    command, monkeypatch, capsys, name
):
    monkeypatch.syspath_prepend(EXTEND)
    words = [word for word in TINY if not (name == "random_corner" and word.startswith("attack.eval"))]
    outputs = command(*WALKS[name], *words)
    rows = list(csv.DictReader((outputs / "demo" / "tables.csv").read_text().splitlines()))
    found = [r for r in rows if r["method"] == METHODS[name] and r["metric"] == "auroc"]
    assert {r["epsilon"] for r in found} == {"0", "3"}
    assert all(0 <= float(r["value"]) <= 100 for r in found)
    by_ood = (outputs / "demo" / "tables_by_ood.csv").read_text()
    assert (",boards," in by_ood) == (name == "checkerboards")
    capsys.readouterr()
    command(*WALKS[name], *words)
    assert "done before" in capsys.readouterr().err
    assert report([str(outputs)]) == 0
    page = (outputs / "report" / "report.md").read_text()
    assert METHODS[name] in page
    if name == "random_corner":
        assert "best of 2 random corners" in page


@pytest.mark.parametrize("name", WALKS)
def test_the_command_of_an_example_is_the_one_that_is_tested(name):
    text = (EXTEND / f"{name}.py").read_text().replace("tries: 5", "tries: 2").replace("count: 100", "count: 12")
    text = re.sub(r" \\\n +", " ", text)
    command = " ".join(f"'{word}'" if set(word) & set("{~") else word for word in WALKS[name])
    assert f"PYTHONPATH=examples/extend python -m aloe_lightning {command}" in text
