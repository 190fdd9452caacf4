import pytest

from aloe_lightning.runtime import progress
from aloe_lightning.runtime.progress import PlainLines, duration, track


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves only when told."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3600, "1:00:00")])
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_plain_lines_tell_rate_and_time_left_at_most_every_ten_seconds(clock, capsys):
    lines = PlainLines("oe training", 100, "steps", already=20)
    for done, seconds in ((21, 1), (40, 10), (41, 11), (70, 25), (100, 26)):
        clock[0] = 100.0 + seconds
        lines.update(done, ", loss 1")
    assert capsys.readouterr().err.splitlines() == [
        "oe training: 40/100 steps, 2.0/s, 0:30 left, loss 1",
        "oe training: 70/100 steps, 2.0/s, 0:15 left, loss 1",
        "oe training: 100/100 steps, 3.1/s, 0:26 in all, loss 1",
    ]


def test_what_is_quick_says_nothing(clock, capsys):
    assert list(track(iter("abc"), 3, "quick")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""


def test_tracked_items_count_their_step_and_never_more_than_the_total(clock, capsys):
    for _ in track(range(3), 250, "attacking", step=100):
        clock[0] += 11
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        "attacking: 100/250 images", "attacking: 200/250 images", "attacking: 250/250 images",
    ]  # fmt: skip
