"""The launchers for real: what may happen to a sweep changes none of its results (see engines.py)."""

import engines
import pytest


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return engines.reference(tmp_path_factory.mktemp("reference") / "reference")


@pytest.mark.slow
@pytest.mark.parametrize("event", engines.EVENTS)
@pytest.mark.parametrize("engine", engines.ENGINES)
def test_what_happens_to_a_sweep_changes_no_result(engine, event, expected, tmp_path):
    if reason := engines.missing(engine):
        pytest.skip(reason)
    assert engines.EVENTS[event](engine, tmp_path / "sweep", expected)
