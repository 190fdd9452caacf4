"""The attack of an evaluation by the name of its preset, and the scores of a batch before and after it."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from aloe_lightning.attacks import PGD, Attack, Membership, frozen_eval, uniform_start
from aloe_lightning.detectors import Fitted, ForwardPass
from aloe_lightning.errors import UserError
from aloe_lightning.robustness.subject import Subject
from aloe_lightning.runtime.seeding import generator

Norm = Literal["linf", "l2"]
PRESETS = ("paper",)
PAPER_STEPS = 10


def attack_of(preset: str, epsilon: float, norm: Norm) -> Attack:
    """Return the attack of a preset.

    Raises:
        UserError: if there is no such preset, or it does not know the norm.
    """
    if preset not in PRESETS:
        raise UserError(f"no attack preset is called {preset!r}: use {', '.join(PRESETS)}, or give attack=")
    if norm != "linf":
        raise UserError(f"preset paper attacks in an Linf ball (got norm={norm!r})")
    return PGD(epsilon=epsilon, steps=PAPER_STEPS)


def starts(shape: tuple[int, ...], seed: int, name: str, first: int) -> Tensor:
    """Draw the noise that an attack starts from, as a function of seed, set and position of each image.

    Args:
        shape: shape of the batch (n, 3, H, W).
        seed: random seed.
        name: name of the set.
        first: position of the batch's first image in the set.

    Returns:
        Noise in [-1, 1), in units of epsilon; the same for every batch size.
    """
    like = torch.empty(0)
    return torch.stack(
        [uniform_start(shape[1:], generator(seed, "start", name, first + k), like) for k in range(shape[0])]
    )


class BatchAttack:
    """Scores batches by every detector, clean and attacked.

    Args:
        subject: the net.
        fitted: its detectors by name.
        attack: the attack; it maximises the loss given by each detector, once for those that share it.
    """

    def __init__(self, subject: Subject, fitted: Mapping[str, Fitted], attack: Attack) -> None:
        self.subject, self.fitted, self.attack = subject, fitted, attack
        self._groups: dict[tuple[bool, str], dict[str, Fitted]] = {}
        for name, detector in fitted.items():
            key = (detector.attack_key is None, detector.attack_key or name)
            self._groups.setdefault(key, {})[name] = detector

    def clean(self, images: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return the scores (n,) by detector, float64 on the CPU, and the predicted classes, None of a score."""
        with frozen_eval(self.subject.net):
            batch = self._pass(images, self.fitted)
            scores = self._scores(batch, self.fitted)
            with torch.no_grad():
                return scores, batch.logits.argmax(1).cpu() if self.subject.kind == "logits" else None

    def attacked(self, images: Tensor, membership: Membership, start: Tensor) -> dict[str, Tensor]:
        """Return the scores (n,) by detector after its attack; a batch that memory does not hold is halved."""
        try:
            return self._attacked(images, membership, start)
        except torch.OutOfMemoryError:
            if len(images) == 1:
                raise
        torch.cuda.empty_cache()
        half = len(images) // 2
        parts = [self.attacked(images[part], membership, start[part]) for part in (slice(half), slice(half, None))]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _attacked(self, images: Tensor, membership: Membership, start: Tensor) -> dict[str, Tensor]:
        scores: dict[str, Tensor] = {}
        images, start = images.to(self.subject.device), start.to(self.subject.device)
        with frozen_eval(self.subject.net):
            for group in self._groups.values():
                loss = next(iter(group.values())).loss(membership)
                perturbed = self.attack(images, loss, start=start)
                scores |= self._scores(self._pass(perturbed, group), group)
        return scores

    def _pass(self, images: Tensor, fitted: Mapping[str, Fitted]) -> ForwardPass:
        needs_gradient = any(detector.needs_input_gradient for detector in fitted.values())
        net = next(iter(fitted.values())).net
        return ForwardPass(net, images.to(self.subject.device), needs_input_gradient=needs_gradient)

    @torch.no_grad()
    def _scores(self, batch: ForwardPass, fitted: Mapping[str, Fitted]) -> dict[str, Tensor]:
        return {name: detector.score(batch).detach().double().cpu() for name, detector in fitted.items()}
