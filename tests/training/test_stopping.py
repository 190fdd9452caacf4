"""A job that is asked to stop saves its state, exits with 143, and continues to the weights of an undisturbed one."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext

import pytest
import torch

from aloe_lightning.runtime.process import EXIT_CODE, Stopped, StopRequest
from aloe_lightning.storage.cells import file_digest
from aloe_lightning.storage.models import TrainedModel
from aloe_lightning.training.trainer import saved_state
from processes import ask_amid_training, exit_code, started
from test_end_to_end import TINY

LONGER = ("objective=oe", *TINY, "trainer.max_steps=12", "checkpoint_seconds=1000")


def test_sigterm_during_a_training_loses_no_step(command, tmp_path):
    job = started([*LONGER, f"paths.outputs={tmp_path / 'stopped'}"], tmp_path, ask_amid_training)
    assert exit_code(job) == EXIT_CODE == 143
    (progress,) = (tmp_path / "stopped").glob("models/demo-oe-*/progress.json")
    assert json.loads(progress.read_text())["step"] == 5
    assert "asked to stop: saved step 5 in " in (tmp_path / "log").read_text()
    command(*LONGER, f"paths.outputs={tmp_path / 'stopped'}")
    command(*LONGER, f"paths.outputs={tmp_path / 'undisturbed'}")
    digests = {file_digest(path) for path in tmp_path.glob("*/models/demo-oe-*/weights.safetensors")}
    assert len(list(tmp_path.glob("*/models/demo-oe-*/weights.safetensors"))) == 2
    assert len(digests) == 1


@pytest.mark.parametrize(("device", "more", "warnings"), [("cpu", 1, 1), ("cpu", 0, 0), ("cuda", 1, 0)])
def test_a_training_that_goes_on_with_other_threads_says_that_its_weights_differ(
    tmp_path, caplog, device, more, warnings
):
    model, threads = TrainedModel(tmp_path), torch.get_num_threads() + more
    torch.save({"global_step": 5}, model.checkpoint)
    model.save_progress(step=5, steps=9, seconds=1.0, threads=threads)
    assert saved_state(model, torch.device(device)) == str(model.checkpoint)
    messages = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(messages) == warnings
    assert all(f"OMP_NUM_THREADS={threads} makes them equal" in message for message in messages)


def ask_to_stop(number, steps=(), deferred=False):
    """Send a signal to this process while it listens; `steps` are done after that."""
    with StopRequest().listening() as stop, stop.deferred() if deferred else nullcontext():
        os.kill(os.getpid(), number)
        for step in steps:
            step()


def test_outside_a_training_a_request_to_stop_ends_the_process_at_once():
    passed = []
    with pytest.raises(Stopped) as end:
        ask_to_stop(signal.SIGTERM, [lambda: time.sleep(0.1), lambda: passed.append("went on")])
    assert end.value.code == 143
    assert passed == []


def test_a_request_to_stop_waits_for_the_end_of_a_deferring_block():
    passed = []
    with pytest.raises(Stopped):
        ask_to_stop(signal.SIGTERM, [lambda: passed.append("went on")], deferred=True)
    assert passed == ["went on"]


def test_the_handler_of_a_scheduler_that_requeues_jobs_is_called_before_the_exit():
    called = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: called.append(number))
    try:
        with pytest.raises(Stopped) as end:
            ask_to_stop(signal.SIGUSR2, [lambda: called.append("saved")], deferred=True)
        assert called == ["saved", signal.SIGUSR2]
        assert end.value.code == 143
        os.kill(os.getpid(), signal.SIGUSR2)
        assert len(called) == 3, "the scheduler's handler is back"
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_a_thread_leaves_the_signals_alone():
    handler = signal.getsignal(signal.SIGTERM)
    seen = []

    def listen():
        with StopRequest().listening():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [handler]


def test_a_process_ends_with_the_one_that_started_it(tmp_path):
    child = "import os, time; from aloe_lightning.runtime.process import end_with_parent; end_with_parent()\n"
    child += f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", parent]) as job:
        while not (tmp_path / "pid").is_file() or not (tmp_path / "pid").read_text():
            time.sleep(0.1)
        job.kill()
    pid = int((tmp_path / "pid").read_text())
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail(f"process {pid} lives on")
