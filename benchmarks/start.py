"""Waiting times of a user: for help, for an error message, for the first training step of the demo."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import torch

from benchmarks.measure import Timing, timed

FIRST_STEP = """
import os
import aloe_lightning.training.trainer as train
train.TrainingProgress.on_train_batch_end = lambda *_: os._exit(0)
from aloe_lightning.cli.main import main
main([])
"""
COMMANDS = {
    "--help": ["-m", "aloe_lightning", "--help"],
    "a config error": ["-m", "aloe_lightning", "epsilonn=2"],
    "data list": ["-m", "aloe_lightning.data", "list"],
    "the demo's first training step": ["-c", FIRST_STEP],
}


def ours(options: argparse.Namespace, _: torch.device) -> Iterator[tuple[str, Timing]]:
    """Time each command in a separate process, with its imports in the page cache."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "ALOE_OUTPUTS": folder}
        for name, command in COMMANDS.items():
            run = [sys.executable, *command]
            work = lambda run=run: subprocess.run(run, env=environment, capture_output=True, check=False)  # noqa: E731
            yield name, timed(work, options.repeats, torch.device("cpu"))


def lightning(options: argparse.Namespace, device: torch.device) -> Iterator[tuple[str, Timing]]:
    """Time what Lightning and its hooks add to a training step, on a tiny net."""
    from omegaconf import OmegaConf
    from pytorch_lightning import Trainer
    from torch.utils.data import DataLoader

    from aloe_lightning.nets import SmallNet
    from aloe_lightning.objectives import OE, Optim
    from aloe_lightning.training.trainer import TrainingProgress
    from benchmarks.steps import random_batch

    options.inliers = options.outliers = 2
    batch = random_batch(options, torch.device("cpu"))
    settings = OmegaConf.to_container(OmegaConf.load("conf/trainer/default.yaml"))
    steps = 300

    def fit() -> float:
        objective = OE(SmallNet(10, width=4), optim=Optim())
        trainer = Trainer(
            **{**settings, "max_steps": steps, "accelerator": device.type, "precision": "32-true"},
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            callbacks=[TrainingProgress("")],
        )
        started = time.perf_counter()
        trainer.fit(objective, DataLoader([batch] * steps, batch_size=None))
        return (time.perf_counter() - started) / steps

    objective = OE(SmallNet(10, width=4)).to(device).train()
    objective.logged = lambda loss, *_: loss
    sgd, schedule = objective.optim.build(objective.net, steps)
    device_batch = random_batch(options, device)

    def step() -> None:
        loss = objective.training_step(device_batch, 0)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        schedule.step()

    bare = timed(lambda: [step() for _ in range(50)], options.repeats, device)
    added = sorted(fit() - bare.seconds / 50 for _ in range(options.repeats))
    yield "Lightning's share of a step", Timing(added[len(added) // 2], (added[-1] - added[0]) / 2, bare.peak_mb)
