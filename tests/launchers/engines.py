"""Engines of a sweep x what may happen to it: each is run for real, and compared with the same sweep in one process.

    python tests/launchers/engines.py --venv /tmp/engines     # installs the launchers there, then runs all of them
    python tests/launchers/engines.py joblib ray              # those installed in this Python

`slurm` needs a running Slurm: `tests/slurm/setup.sh` starts one on this machine. A row takes two to five minutes.
"""

import argparse
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SWEEP = (
    *(
        "-m",
        "+sweep=methods",
        "objective=oe,original",
        "net.width=8",
        "trainer.max_steps=20",
        "checkpoint_seconds=0.02",
    ),
    *("data.num_train=96", "data.num_test=20", "outliers.count=200", "batch.inliers=32", "batch.outliers=64"),
    *("attack.eval.steps=2", "ood=[demo]", "evaluation.max_ood=10", "trainer.precision=32-true"),
)
CELLS = 2
ENGINES = {
    "basic": (),
    "joblib": ("launcher=joblib",),
    "ray": ("launcher=ray",),
    "submitit_local": ("launcher=submitit_local",),
    "slurm": ("launcher=submitit", "hydra.launcher.gpus_per_node=null"),
}
PLUGINS = {"joblib": "joblib", "ray": "ray", "submitit_local": "submitit", "slurm": "submitit"}
LIMIT = 900


def missing(engine: str) -> str:
    """Return why an engine cannot be run here; "" if it can."""
    plugin = PLUGINS.get(engine)
    if plugin and importlib.util.find_spec(f"hydra_plugins.hydra_{plugin}_launcher") is None:
        return f"the extra [{plugin}] is not installed"
    if engine == "slurm" and (not shutil.which("sinfo") or subprocess.run(["sinfo"], capture_output=True).returncode):
        return "no Slurm answers: tests/slurm/setup.sh starts one"
    return ""


def start(engine: str, folder: Path, *words: str) -> "subprocess.Popen[bytes]":
    """Start the sweep in a process group of its own; its output goes to FOLDER.log."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_DEDUP_LOGS": "0"}
    command = [sys.executable, "-m", "aloe_lightning", *SWEEP, *ENGINES[engine], f"paths.outputs={folder.name}", *words]
    with (folder.parent / f"{folder.name}.log").open("ab") as log:
        return subprocess.Popen(
            command, env=environment, cwd=folder.parent, stdout=log, stderr=log, start_new_session=True
        )


def outcome(folder: Path) -> dict[str, str]:
    """Return the digest of each table and of each net's weights."""
    files = [*folder.glob("demo/tables*"), *folder.glob("models/*/weights.safetensors")]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def holders(folder: Path) -> set[int]:
    """Return the processes that are training a net of a folder: they hold the lock of the net."""
    locks = {file.stat().st_ino for file in folder.glob("models/.*.lock")}
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return {int(line[4]) for line in lines if line[1] == "FLOCK" and int(line[5].split(":")[2]) in locks}


def wait_for_training(folder: Path, sweep: "subprocess.Popen[bytes]") -> int:
    """Wait until a training has saved a state, and return its process."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end and sweep.poll() is None:
        saved = {path.parent.name for path in folder.glob("models/*/progress.json")}
        for name in saved:
            lock = folder / "models" / f".{name}.lock"
            inode = lock.stat().st_ino if lock.is_file() else -1
            for line in Path("/proc/locks").read_text().splitlines():
                parts = line.split()
                if parts[1] == "FLOCK" and int(parts[5].split(":")[2]) == inode:
                    return int(parts[4])
        time.sleep(0.01)
    raise AssertionError(f"no training was seen: {folder}.log")


def check(condition: bool, message: str) -> None:
    """Raise AssertionError with a message if a condition does not hold."""
    if not condition:
        raise AssertionError(message)


def finish(sweep: "subprocess.Popen[bytes]", folder: Path, expected: dict[str, str]) -> None:
    """Wait for the end of a sweep, and compare exit code, tables and weights."""
    code = sweep.wait(timeout=LIMIT)
    check(code == 0, f"exit code {code}: {folder}.log")
    check(outcome(folder) == expected, f"other results: {folder}.log")


def same_results(engine: str, folder: Path, expected: dict[str, str]) -> str:
    """Run to the end; then the same command again, which finds everything done."""
    finish(start(engine, folder), folder, expected)
    return "right"


def restart(engine: str, folder: Path, expected: dict[str, str]) -> str:
    """Run a finished sweep again: nothing is computed."""
    finish(start(engine, folder), folder, expected)
    written = {path: path.stat().st_mtime_ns for path in folder.glob("demo/*/records.jsonl")}
    finish(start(engine, folder), folder, expected)
    check(len(written) == CELLS, f"{len(written)} cells")
    check(written == {path: path.stat().st_mtime_ns for path in written}, "a finished cell was computed again")
    return "right"


def worker_killed(engine: str, folder: Path, expected: dict[str, str]) -> str:
    """Kill the process that trains: the sweep computes the cell all the same."""
    if engine == "basic":
        return "as parent"
    sweep = start(engine, folder)
    worker = wait_for_training(folder, sweep)
    check(worker != sweep.pid, "the command itself trains")
    os.kill(worker, signal.SIGKILL)
    if engine == "slurm" and not slurm_keeps_accounts():
        # Slurm then does not tell submitit how a job ended: the command waits for its result.
        time.sleep(20)
        check(sweep.poll() is None, f"it was noticed, or the command failed: {folder}.log")
        sweep.terminate()
        check(sweep.wait(timeout=60) != 0, f"no error after it was ended: {folder}.log")
        finish(start(engine, folder), folder, expected)
        return "not noticed without accounting; right after the command is ended and given again"
    finish(sweep, folder, expected)
    return "right"


def slurm_keeps_accounts() -> bool:
    """Return whether a database of Slurm knows how jobs ended."""
    config = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True).stdout
    (line,) = (line for line in config.splitlines() if line.startswith("AccountingStorageType"))
    return "none" not in line and "null" not in line


def parent_killed(engine: str, folder: Path, expected: dict[str, str]) -> str:
    """Kill the command: its workers end, or finish in the queue; the same command then ends in the same results."""
    sweep = start(engine, folder)
    wait_for_training(folder, sweep)
    sweep.kill()
    sweep.wait()
    killed = time.monotonic()
    while holders(folder):
        check(time.monotonic() < killed + 60, f"workers live on: {holders(folder)}")
        time.sleep(0.1)
    seconds = time.monotonic() - killed
    finish(start(engine, folder), folder, expected)
    return f"right ({seconds:.0f} s)"


def two_at_once(engine: str, folder: Path, expected: dict[str, str]) -> str:
    """Run the same command twice at the same time: each cell is computed once, and both end well."""
    sweeps = [start(engine, folder), start(engine, folder)]
    for sweep in sweeps:
        finish(sweep, folder, expected)
    logs = "".join(path.read_text() for path in folder.glob("demo/*/aloe_lightning*.log"))
    check(logs.count(": evaluated in") == CELLS, f"{logs.count(': evaluated in')} evaluations of {CELLS} cells")
    return "right"


EVENTS = {
    "same results": same_results,
    "worker killed": worker_killed,
    "parent killed (workers end after)": parent_killed,
    "restart": restart,
    "two at once": two_at_once,
}


def reference(folder: Path) -> dict[str, str]:
    """Run the sweep in one process and return its results."""
    sweep = start("basic", folder)
    check(sweep.wait(timeout=LIMIT) == 0, f"the sweep fails without any engine: {folder}.log")
    return outcome(folder)


def main() -> int:
    """Print the table; return 1 if a cell of it is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engines", nargs="*", default=list(ENGINES), help=", ".join(ENGINES))
    parser.add_argument("--venv", type=Path, help="create this environment with the launchers, and run in it")
    options = parser.parse_args()
    if options.venv:
        return _run_in(options.venv, options.engines)
    folder, wrong = Path(tempfile.mkdtemp(prefix="engines-")), 0
    expected = reference(folder / "reference")
    print(f"| engine | {' | '.join(EVENTS)} |\n|:--|{':--|' * len(EVENTS)}", flush=True)
    for engine in options.engines:
        if reason := missing(engine):
            print(f"| {engine} | {reason} |", flush=True)
            continue
        cells = []
        for name, event in EVENTS.items():
            try:
                cells.append(event(engine, folder / f"{engine}-{name.split(' (')[0].replace(' ', '-')}", expected))
            except (AssertionError, subprocess.TimeoutExpired) as error:
                cells.append(f"WRONG: {error}")
                wrong += 1
            print(f"{engine}, {name}: {cells[-1]}", file=sys.stderr, flush=True)
        print(f"| {engine} | {' | '.join(cells)} |", flush=True)
    print(f"outputs and logs: {folder}")
    return int(wrong > 0)


def _run_in(venv: Path, engines: list[str]) -> int:
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    python = venv / "bin" / "python"
    (site,) = venv.glob("lib/python*/site-packages")
    paths = [path for path in sys.path if path.endswith("site-packages")]
    (site / "of_the_calling_python.pth").write_text("\n".join(paths))
    version = importlib.metadata.version("hydra-core")
    launchers = [f"hydra-{name}-launcher" for name in dict.fromkeys(PLUGINS.values())]
    subprocess.run([python, "-m", "pip", "install", "-q", f"hydra-core=={version}", *launchers], check=True)
    return subprocess.run([python, __file__, *engines]).returncode


if __name__ == "__main__":
    sys.exit(main())
