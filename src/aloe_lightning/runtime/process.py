"""This process: how it was started, and how it ends when it is asked to stop, by SIGTERM or a scheduler's SIGUSR2."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

EXIT_CODE = 128 + signal.SIGTERM
"""Exit code of a job that was asked to stop: 143."""
SECONDS_TO_SAVE = 60.0
"""Time that a process has to save its state after the process that started it has ended."""


class Stopped(SystemExit):
    """The end of a process that was asked to stop."""


class StopRequest:
    """Remembers a signal to stop.

    Attributes:
        received: number of the signal, or 0.
    """

    def __init__(self) -> None:
        self.received, self._deferred = 0, False
        self._handlers: dict[int, Any] = {}

    @contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Handle the signals while the block runs; only the main thread of a process can."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        # SIGUSR2 ends a process by default; only where a scheduler's handler requeues the job is it a request to stop.
        numbers = [signal.SIGTERM, *([signal.SIGUSR2] if callable(signal.getsignal(signal.SIGUSR2)) else [])]
        self._handlers = {number: signal.getsignal(number) for number in numbers}
        try:
            self.handle()
            yield self
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Let the block end before a request is obeyed, unless the block calls `exit` earlier."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self.received:
            self.exit()

    def handle(self) -> None:
        """Install the handlers; again where a library has replaced them."""
        for number in self._handlers:
            signal.signal(number, self._on_signal)

    def exit(self) -> NoReturn:
        """End this process with exit code 143, after the handler that was there before, which may requeue the job."""
        handler = self._handlers.get(self.received)
        if callable(handler) and self.received != signal.SIGTERM:
            handler(self.received, None)
        raise Stopped(EXIT_CODE)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        self.received = number
        if not self._deferred:
            self.exit()


def started_by_a_launcher() -> bool:
    """Return whether Lightning, torchrun or srun started this process as one of several, connected or not yet."""
    return "LOCAL_RANK" in os.environ or int(os.environ.get("SLURM_NTASKS", "1")) > 1


def end_with_parent() -> None:
    """Ask this process to stop when the process that started it has ended, killed for example."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(SECONDS_TO_SAVE)
        os._exit(EXIT_CODE)

    threading.Thread(target=watch, daemon=True, name="end_with_parent").start()
