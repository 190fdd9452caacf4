"""The attack of an evaluation by the name of its preset, scores of a batch before and after it, guaranteed bounds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor

from aloe_lightning.attacks import (
    PGD,
    Attack,
    Ball,
    ImageSeeds,
    Membership,
    Norm,
    ScoreAttack,
    Strong,
    WorstCase,
    frozen_eval,
)
from aloe_lightning.detectors import MSP, Detector, Fitted, ForwardPass
from aloe_lightning.errors import UserError
from aloe_lightning.nets import ConfidenceBounds, Unbounded
from aloe_lightning.robustness.arguments import require_in_ball
from aloe_lightning.robustness.subject import Subject

PRESETS = ("paper", "quick", "standard", "extreme")
PAPER_STEPS = 10
VACUOUS = 0.005
"""A guaranteed AUROC up to this one says nothing."""


def attack_of(preset: str, epsilon: float, norm: Norm) -> Attack | ScoreAttack:
    """Return the attack of a preset.

    Raises:
        UserError: if there is no such preset, or it does not know the norm.
    """
    if preset not in PRESETS:
        raise UserError(f"no attack preset is called {preset!r}: use {', '.join(PRESETS)}, or give attack=")
    if preset != "paper":
        return Strong(epsilon=epsilon, norm=norm, preset=preset)  # type: ignore[arg-type]
    if norm != "linf":
        raise UserError(f"preset paper attacks in an Linf ball (got norm={norm!r})")
    return PGD(epsilon=epsilon, steps=PAPER_STEPS)


def kind_of(attack: Attack | ScoreAttack, fitted: Fitted) -> str:
    """Return `adaptive` if the attack goes through the detector's own score, `surrogate` if through the softmax."""
    return "adaptive" if isinstance(attack, ScoreAttack) or fitted.attack_key is None else "surrogate"


class BatchAttack:
    """Scores batches by every detector, clean and attacked.

    Args:
        subject: the net.
        fitted: its detectors by name.
        attack: an attack on scores, or one that maximises the loss of each detector, once for those that share it.
        ball: the ball that the attack states; an image outside is an error.
    """

    def __init__(
        self, subject: Subject, fitted: Mapping[str, Fitted], attack: Attack | ScoreAttack, ball: Ball
    ) -> None:
        self.subject, self.fitted, self.attack, self.ball = subject, fitted, attack, ball
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

    def attacked(
        self, images: Tensor, membership: Membership, seeds: ImageSeeds, clean: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, WorstCase]]:
        """Attack a batch for every detector; one that memory does not hold is halved.

        Args:
            images: (n, 3, H, W) in [0, 1].
            membership: membership of the images.
            seeds: randomness of each image, so that the batch size does not change the attack.
            clean: scores (n,) of the clean images by detector.

        Returns:
            Scores (n,) by detector, and the worst cases of an attack on scores, by detector.
        """
        images = images.to(self.subject.device)
        try:
            with frozen_eval(self.subject.net):
                if isinstance(self.attack, ScoreAttack):
                    return self._attack_scores(self.attack, images, membership, seeds, clean)
                return self._attack_losses(self.attack, images, membership, seeds), {}
        except torch.OutOfMemoryError as error:
            if len(images) == 1:
                raise
            if isinstance(self.attack, ScoreAttack):
                raise UserError(f"memory does not hold a batch of {len(images)}: set a smaller batch_size=") from error
        torch.cuda.empty_cache()
        half = len(images) // 2
        parts = [
            self.attacked(images[part], membership, replace(seeds, positions=seeds.positions[part]), clean)[0]
            for part in (slice(half), slice(half, None))
        ]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}, {}

    def _attack_losses(
        self, attack: Attack, images: Tensor, membership: Membership, seeds: ImageSeeds
    ) -> dict[str, Tensor]:
        scores: dict[str, Tensor] = {}
        start = seeds.noise(images, "start")
        for group in self._groups.values():
            perturbed = attack(images, next(iter(group.values())).loss(membership), start=start)
            require_in_ball(attack, perturbed, images, self.ball)
            scores |= self._scores(self._pass(perturbed, group), group)
        return scores

    def _attack_scores(
        self,
        attack: ScoreAttack,
        images: Tensor,
        membership: Membership,
        seeds: ImageSeeds,
        clean: Mapping[str, Tensor],
    ) -> tuple[dict[str, Tensor], dict[str, WorstCase]]:
        targets = {name: detector.target(membership) for name, detector in self.fitted.items()}
        if self.subject.kind == "score":  # the net gives scores, not logits
            targets = {name: replace(target, logits=None) for name, target in targets.items()}
        known = {name: scores.to(self.subject.device) for name, scores in clean.items()}
        worst = attack.attack_scores(images, targets, clean_scores=known, seeds=seeds)
        for case in worst.values():
            require_in_ball(attack, case.images, images, self.ball)
        return {name: case.score.detach().double().cpu() for name, case in worst.items()}, worst

    def _pass(self, images: Tensor, fitted: Mapping[str, Fitted]) -> ForwardPass:
        needs_gradient = any(detector.needs_input_gradient for detector in fitted.values())
        net = next(iter(fitted.values())).net
        return ForwardPass(net, images.to(self.subject.device), needs_input_gradient=needs_gradient)

    @torch.no_grad()
    def _scores(self, batch: ForwardPass, fitted: Mapping[str, Fitted]) -> dict[str, Tensor]:
        return {name: detector.score(batch).detach().double().cpu() for name, detector in fitted.items()}


@dataclass(frozen=True)
class Guarantee:
    """Bounds of the scores of some detectors.

    Attributes:
        subject: the net.
        detectors: names of the detectors that have bounds.
        bounds: bounds of the largest softmax probability; None if the net has none.
        eps: radius of the Linf ball, in [0, 1] pixels.
    """

    subject: Subject
    detectors: Sequence[str]
    bounds: ConfidenceBounds | None
    eps: float

    @classmethod
    def of(cls, subject: Subject, detectors: Mapping[str, Detector], norm: Norm, epsilon: float) -> "Guarantee":
        """Return the bounds of MSP in an Linf ball of epsilon / 255; none where the net has other operations."""
        names = [name for name, detector in detectors.items() if type(detector) is MSP]
        if subject.kind == "logits" and norm == "linf" and names:
            try:
                with frozen_eval(subject.net):
                    return cls(subject, names, ConfidenceBounds(subject.net), epsilon / 255)
            except Unbounded:
                pass
        return cls(subject, (), None, epsilon / 255)

    def __call__(self, images: Tensor, membership: Membership) -> dict[str, Tensor]:
        """Return the worst scores (n,) that any image of each ball may have, float64 on the CPU, by detector."""
        if self.bounds is None:
            return {}
        with frozen_eval(self.subject.net):
            lower, upper = self.bounds(images.to(self.subject.device), self.eps)
        worst = (lower if membership == "id" else upper).cpu()
        return dict.fromkeys(self.detectors, worst)

    def notes(self, numbers: pd.DataFrame) -> list[str]:
        """Return a sentence for each detector whose bound says nothing."""
        found = []
        for detector in self.detectors:
            rows = numbers[(numbers.metric == "gauroc") & (numbers.detector == detector)]
            vacuous = rows[rows.value <= VACUOUS].side.unique()
            if len(vacuous):
                found.append(
                    f"the guaranteed bound of {detector} is vacuous with attacked side {', '.join(vacuous)}: GAUROC is "
                    "0.5 % or less because interval bounds grow with every layer, which says nothing about the net"
                )
        return found
