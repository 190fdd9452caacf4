"""A job returns a metric by name."""

import json
from statistics import fmean

import pytest

from aloe_lightning.cli.optimize import metric_of, require_metric
from aloe_lightning.cli.session import Session
from aloe_lightning.errors import UserError
from aloe_lightning.evaluation.records import read_records
from test_end_to_end import TINY

CONFIG = {"detector": {"msp": {}, "odin": {}}, "ood": {"textures": {}, "svhn": {}}, "evaluation": {"classifier": True}}


@pytest.fixture(scope="module")
def cell(tmp_path_factory):
    """The records of a cell with two OOD sets, as the file states them."""
    from aloe_lightning.cli.main import main

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("cell"))
        patch.setattr("sys.argv", ["aloe_lightning"])
        patch.setenv("ALOE_OUTPUTS", "outputs")
        words = [word for word in TINY if not word.startswith("ood=")]
        main(["objective=original", "optimize=attacked_auroc/odin", *words])
        (file,) = (tmp_path_factory.getbasetemp()).glob("cell0/outputs/demo/*/records.jsonl")
        return file


def test_a_metric_is_the_mean_of_the_records_that_its_name_states(cell):
    lines = [json.loads(line) for line in cell.read_text().splitlines()]

    def expected(side, metric, **place):
        return fmean(
            r["value"]
            for r in lines
            if (r["side"], r["metric"]) == (side, metric) and r["ood"] and place.items() <= r.items()
        )

    records = read_records(cell)
    assert metric_of("attacked_auroc", records) == pytest.approx(expected("both", "auroc"))
    assert metric_of("clean_fpr95/odin", records) == pytest.approx(expected("none", "fpr95", detector="odin"))
    name = "clean_auroc/msp/clouds"
    assert metric_of(name, records) == expected("none", "auroc", detector="msp", ood="clouds")
    (accuracy,) = [r["value"] for r in lines if r["metric"] == "accuracy" and r["side"] == "none"]
    assert metric_of("accuracy", records) == accuracy
    (attacked,) = [r["value"] for r in lines if r["metric"] == "accuracy" and r["side"] == "id"]
    assert metric_of("attacked_accuracy", records) == attacked


@pytest.mark.parametrize("name", ["clean_auroc", "attacked_fpr95/odin", "attacked_auroc/msp/svhn", "accuracy"])
def test_names_of_metrics(name):
    require_metric(name, CONFIG)


@pytest.mark.parametrize(
    "name", ["", "auroc", "attackd_auroc", "clean_auroc/mahalanobis", "clean_auroc/msp/isun", "accuracy/msp", "a/b/c/d"]
)
def test_an_unknown_metric_is_refused_with_the_list(name):
    with pytest.raises(
        UserError, match=r"optimize=.*attacked_auroc.*accuracy.*METRIC/DETECTOR with msp, odin"
    ) as error:
        require_metric(name, CONFIG)
    assert ("did you mean 'attacked_auroc'" in str(error.value)) == (name == "attackd_auroc")


def test_an_unknown_metric_is_refused_before_the_training(command, capsys, monkeypatch):
    monkeypatch.setattr("aloe_lightning.run.run_cell", lambda *_: pytest.fail("it trained"))
    with pytest.raises(SystemExit) as end:
        command("objective=oe", "optimize=attacked_aurocs", *TINY)
    assert end.value.code == 2
    assert "did you mean 'attacked_auroc'" in capsys.readouterr().err


def test_a_job_returns_the_metric_also_of_a_cell_done_before(command, monkeypatch, tmp_path):
    returned = []

    def on_job_end(self, config, job_return, **_):
        returned.append(job_return.return_value)

    monkeypatch.setattr(Session, "on_job_end", on_job_end)
    for _ in range(2):
        command("-m", "objective=original", "optimize=clean_auroc/msp", *TINY)
    (file,) = tmp_path.glob("outputs/demo/*/records.jsonl")
    assert returned == [metric_of("clean_auroc/msp", read_records(file))] * 2
