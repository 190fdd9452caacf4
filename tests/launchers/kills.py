"""A command killed at random moments, by SIGKILL and SIGTERM, and started again: the results are those without kills.

    python tests/launchers/kills.py       # 20 kills each of a training, a sweep and an attacked evaluation
    python tests/launchers/kills.py training --kills 100 --seed 1

A command that ends before its kill is compared at once, and the remaining kills go to a new one.
"""

import argparse
import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

TINY = (
    *("net.width=8", "trainer.precision=32-true", "data.num_train=96", "data.num_test=40", "outliers.count=200"),
    *("batch.inliers=32", "batch.outliers=64", "ood=[demo]", "attack.eval.steps=2"),
)
CASES = {
    "training": ("objective=aloe", *TINY, "trainer.max_steps=150", "evaluation.max_ood=10", "checkpoint_seconds=0.1"),
    "sweep": (
        *("-m", "+sweep=methods", "objective=oe,aloe", "epsilon=1,2", *TINY),
        *("trainer.max_steps=30", "evaluation.max_ood=20", "checkpoint_seconds=0.1"),
    ),
    "evaluation": (
        *("objective=oe", *TINY, "attack=strong", "attack.eval.preset=quick", "trainer.max_steps=3"),
        *("evaluation.batch_size=4", "evaluation.max_ood=40"),
    ),
}
"""Commands. A state is saved every tenth of a second, so that kills also hit the saving."""
COMPUTING = re.compile(r": (training|trained before.*|evaluated in .*)\n")
"""Lines of the log after which a kill may follow; to import torch takes longer than the rest."""
CODES = (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM)
LIMIT = 600


class Run:
    """One attempt at a command in a folder; its log is FOLDER-N.log."""

    def __init__(self, words: tuple[str, ...], folder: Path, number: int) -> None:
        self.log = folder.with_name(f"{folder.name}-{number}.log")
        environment = {**os.environ, "ALOE_OUTPUTS": str(folder), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "aloe_lightning", *words]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, env=environment, cwd=folder.parent, stdout=log, stderr=log, start_new_session=True
            )

    def computes_after(self) -> float:
        """Wait until the command computes or has ended; return the time then."""
        end = time.monotonic() + LIMIT
        while self.process.poll() is None and not COMPUTING.search(self.log.read_text(errors="replace")):
            if time.monotonic() > end:
                self.process.kill()
                raise AssertionError(f"it computes nothing: {self.log}")
            time.sleep(0.02)
        return time.monotonic()

    def ends_within(self, seconds: float) -> bool:
        """Return whether the command ends by itself within a time."""
        try:
            self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        return True


def outcome(folder: Path) -> dict[str, str]:
    """Return a digest of the weights, records, tables and arrays of scores; AssertionError if anything else is left."""
    digests = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(file.relative_to(folder))
        if re.search(r"last\.ckpt|progress\.json|batches-|failed\.log|/\.\d+-", name):
            raise AssertionError(f"{file} is left")
        if file.name == "scores.npz":
            with np.load(file) as arrays:
                content = repr(
                    [(key, arrays[key].dtype, arrays[key].tobytes()) for key in sorted(arrays.files)]
                ).encode()
        elif file.suffix == ".safetensors" or file.name.startswith(("records", "tables")):
            content = file.read_bytes()
        else:
            continue
        digests[name] = hashlib.sha256(content).hexdigest()
    return digests


def survive(words: tuple[str, ...], folder: Path, kills: int, seed: int) -> str:
    """Kill a command, half by SIGKILL and half by SIGTERM, and run it again, until all kills are spent.

    Returns:
        Number of kills and of the whole runs that they were spread over.

    Raises:
        AssertionError: if the results differ, a file is left over, or the command ends with another code.
    """
    draws = random.Random(seed)
    signals = [signal.SIGKILL, signal.SIGTERM] * (kills // 2)
    draws.shuffle(signals)
    whole = Run(words, folder / "whole", 0)
    begun = whole.computes_after()
    check(whole.ends_within(LIMIT) and whole.process.returncode == 0, whole)
    lasted, expected = time.monotonic() - begun, outcome(folder / "whole")
    place, runs, dealt, number = folder / "parts-0", 1, 0, 0
    while True:
        run, number = Run(words, place, number), number + 1
        run.computes_after()
        if dealt < len(signals) and not run.ends_within(draws.uniform(0, lasted)):
            # The process alone: what it has started must end with it.
            os.kill(run.process.pid, signals[dealt])
            check(run.ends_within(LIMIT) and run.process.returncode in (*CODES, 0), run)
            dealt += 1
            continue
        check(run.ends_within(LIMIT) and run.process.returncode == 0, run)
        check(outcome(place) == expected, run)
        if dealt == len(signals):
            return f"{dealt} kills of {runs} commands of {lasted:.0f} s: results identical"
        place, runs = folder / f"parts-{runs}", runs + 1


def check(condition: bool, run: Run) -> None:
    """Raise AssertionError, with the end of the log, if a condition does not hold."""
    if not condition:
        tail = "".join(run.log.read_text(errors="replace").splitlines(keepends=True)[-20:])
        raise AssertionError(f"exit code {run.process.returncode}, or other results: {run.log}\n{tail}")


def main() -> int:
    """Print one line for each case; return 1 if one is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=list(CASES), help=", ".join(CASES))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder, wrong = Path(tempfile.mkdtemp(prefix="kills-")), 0
    for case in options.cases:
        started = time.monotonic()
        (folder / case).mkdir()
        try:
            result = survive(CASES[case], folder / case, options.kills, options.seed)
        except AssertionError as error:
            result, wrong = f"WRONG: {error}", 1
        print(f"{case}: {result}; {time.monotonic() - started:.0f} s", flush=True)
    print(f"outputs and logs: {folder}")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
