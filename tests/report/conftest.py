"""Runs of all cells of the paper with random scores, and their report; made once, as they take long."""

import pytest
from synthetic_runs import write_paper

from aloe_lightning.report import report
from aloe_lightning.report.frame import records_frame, table_frame
from aloe_lightning.report.runs import collect


@pytest.fixture(scope="session")
def outputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paper")
    write_paper(folder)
    return folder


@pytest.fixture(scope="session")
def written(outputs):
    files = report(outputs, outputs.parent / "report")
    return {path.name: path for path in files}


@pytest.fixture(scope="session")
def frame(outputs):
    return table_frame(records_frame(collect(outputs).groups), intervals=True)
