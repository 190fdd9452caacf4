"""The scores of a few embedded pictures, by which a net is checked without any data set."""

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from aloe_lightning.data import Demo, DemoOOD
from aloe_lightning.detectors.logits import max_softmax
from aloe_lightning.errors import UserError

TOLERANCE = 1e-4
"""Largest accepted difference of a score; processors round differently."""


def sample_pictures() -> Tensor:
    """Return sixteen pictures of the demo, uint8 (16, 3, 32, 32): eight shapes and eight clouds."""
    return torch.cat([Demo(num_test=8).test_set().images, DemoOOD(kind="clouds", count=8).load().images])


def sample_scores(net: nn.Module) -> dict[str, Any]:
    """Return the digest of the pictures, their MSP scores and their predicted classes."""
    pictures = sample_pictures()
    with torch.no_grad():
        logits = net(pictures.float() / 255)
    return {
        "pixels": hashlib.sha256(pictures.numpy().tobytes()).hexdigest(),
        "msp": max_softmax(logits).tolist(),
        "classes": logits.argmax(1).tolist(),
    }


def check_sample(net: nn.Module, stated: dict[str, Any]) -> float:
    """Return the largest difference between a net's scores and those that its card states.

    Raises:
        UserError: if the pictures are others, or a score differs by more than `TOLERANCE`.
    """
    scores = sample_scores(net)
    if scores["pixels"] != stated["pixels"]:
        raise UserError("the embedded pictures differ from those of the card: another NumPy draws other ones")
    difference: float = max(abs(a - b) for a, b in zip(scores["msp"], stated["msp"], strict=True))
    if difference > TOLERANCE:
        raise UserError(f"the scores of the embedded pictures differ from the card's by {difference:.2g}")
    return difference
