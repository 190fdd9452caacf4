"""Random kills of a command change none of its results (see kills.py)."""

import kills
import pytest


@pytest.mark.slow
@pytest.mark.parametrize("case", kills.CASES)
def test_twenty_kills_at_random_moments_change_no_result(case, tmp_path):
    assert kills.survive(kills.CASES[case], tmp_path, kills=20, seed=0).endswith("results identical")
