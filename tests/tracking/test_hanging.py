"""A logger that hangs or fails costs a run some seconds, once, and no result."""

import logging
import threading
import time

from pytorch_lightning.loggers import CSVLogger

from aloe_lightning.tracking.loggers import warning_only
from test_end_to_end import TINY


def test_a_call_that_hangs_is_left_and_not_repeated_until_it_ends(caplog):
    release, calls = threading.Event(), []

    def log_metrics(step):
        calls.append(step)
        release.wait(20)

    log_to, started = warning_only(log_metrics, seconds=0.1), time.monotonic()
    with caplog.at_level(logging.WARNING):
        for step in range(50):
            log_to(step)
    assert time.monotonic() - started < 5
    assert calls == [0]
    assert caplog.text.count("the logger does not answer for 0.1 s, the run goes on without it") == 1
    release.set()
    time.sleep(0.2)
    log_to(50)
    assert calls == [0, 50]


def test_a_failure_is_a_warning(caplog):
    warning_only(lambda: 1 / 0)()
    assert "the logger failed, the run goes on: ZeroDivisionError: division by zero" in caplog.text


def test_a_training_whose_logger_hangs_ends_in_its_records(command, monkeypatch):
    monkeypatch.setattr(
        "aloe_lightning.tracking.loggers.warning_only", lambda log_to: warning_only(log_to, seconds=0.1)
    )
    monkeypatch.setattr(CSVLogger, "log_metrics", lambda *_, **__: time.sleep(15))
    outputs = command("objective=oe", *TINY)
    assert len(list(outputs.glob("demo/oe-*/records.jsonl"))) == 1
