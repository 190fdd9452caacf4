"""Progress of long loops: a bar with an estimate of the remaining time on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 10.0


def duration(seconds: float) -> str:
    """Return seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class PlainLines:
    """Prints `label: done/total, rate, remaining time` to stderr, at most once in ten seconds."""

    def __init__(self, label: str, total: int, unit: str, already: int = 0) -> None:
        self.label, self.total, self.unit, self.already = label, total, unit, already
        self.started = self.printed = time.monotonic()

    def update(self, done: int, note: str = "") -> None:
        """Print how much is done, if it is time to; the last call always prints if anything was printed before."""
        now = time.monotonic()
        last = done >= self.total and self.printed > self.started
        if now - self.printed < SECONDS_BETWEEN_LINES and not last:
            return
        self.printed = now
        rate = (done - self.already) / max(now - self.started, 1e-9)
        left = duration((self.total - done) / rate) if rate else "?"
        detail = f"{duration(now - self.started)} in all" if last else f"{left} left"
        print(
            f"{self.label}: {done}/{self.total} {self.unit}, {rate:.1f}/s, {detail}{note}", file=sys.stderr, flush=True
        )

    def close(self) -> None:
        """Do nothing: lines need no cleaning up."""


class Bar:
    """A bar on stderr with the remaining time; it disappears when it is closed."""

    def __init__(self, label: str, total: int, unit: str, already: int = 0) -> None:
        self.label = label
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(f"{unit},"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=Console(stderr=True),
            transient=True,
        )
        self.task = self.progress.add_task(label, total=total, completed=already)
        self.progress.start()

    def update(self, done: int, note: str = "") -> None:
        """Move the bar."""
        self.progress.update(self.task, completed=done, description=self.label + note)

    def close(self) -> None:
        """Remove the bar."""
        self.progress.stop()


def progress_display(label: str, total: int, unit: str, already: int = 0) -> PlainLines | Bar:
    """Return a bar if stderr is a terminal, else plain lines.

    Args:
        label: name of the activity.
        total: number of units.
        unit: name of the units.
        already: units done before, which are not counted in the speed.
    """
    return (Bar if sys.stderr.isatty() else PlainLines)(label, total, unit, already)


def track(items: Iterable[T], total: int, label: str, unit: str = "images", step: int = 1) -> Iterator[T]:
    """Yield items and show the progress; each item counts `step` units, the last the remainder of `total`."""
    display = progress_display(label, total, unit)
    try:
        for index, item in enumerate(items):
            yield item
            display.update(min((index + 1) * step, total))
    finally:
        display.close()
