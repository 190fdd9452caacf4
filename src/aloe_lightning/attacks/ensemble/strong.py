"""The ensemble attack on the scores of detectors: the pointwise worst case over its members."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from annotated_types import Ge
from torch import Tensor

from aloe_lightning.attacks.apgd import apgd
from aloe_lightning.attacks.ascent import best_pgd, better, loss_of
from aloe_lightning.attacks.ball import Ball, Norm
from aloe_lightning.attacks.ensemble.members import Budget, MemberName, run_member
from aloe_lightning.attacks.ensemble.target import ImageSeeds, Pool, Target, WorstCase, check_images, random_score
from aloe_lightning.attacks.linf import LossFn, pgd_linf, uniform_start
from aloe_lightning.errors import UserError
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import NonNegativeInt, PositiveInt

PAPER_STEPS = 10


class Preset(NamedTuple):
    """The members of an ensemble and their effort."""

    members: tuple[MemberName, ...]
    steps: int
    restarts: int
    queries: int
    epsilon_checks: int


_ALL: tuple[MemberName, ...] = ("score", "momentum", "margin", "centred", "surrogate", "classes", "square", "polish")
PRESETS = {
    "quick": Preset(("target_class", "fast"), 10, 1, 0, 0),
    "standard": Preset(_ALL, 40, 1, 100, 16),
    "extreme": Preset(_ALL, 500, 5, 1000, 16),
}


class ScoreAttack(ABC):
    """An attack on the scores of detectors themselves, where an `Attack` maximises one loss; it can do that, too."""

    @abstractmethod
    def __call__(
        self, images: Tensor, loss: LossFn, *, start: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Perturb images (N, 3, H, W) in [0, 1] so that they maximise one loss; see `Attack`."""

    @abstractmethod
    def describe(self) -> str:
        """Return the attack and its settings except epsilon, in one line for records and captions."""

    @abstractmethod
    def attack_scores(
        self,
        images: Tensor,
        targets: Mapping[str, Target],
        *,
        clean_scores: Mapping[str, Tensor] | None = None,
        start: Tensor | None = None,
        seeds: ImageSeeds | None = None,
    ) -> dict[str, WorstCase]:
        """Return the worst case of each image for each detector.

        Args:
            images: (N, 3, H, W) in [0, 1].
            targets: scores by name of the detector, all of the same membership; the caller freezes the nets.
            clean_scores: scores (N,) of the images, where they are known.
            start: noise in [-1, 1] of the images' shape, which chooses the first start; None for a draw from seeds.
            seeds: source of all other randomness; None for the seed 0 and the position in the batch.

        Raises:
            UserError: if images are outside [0, 1], as normalised ones are.
        """


@checked
@dataclass(frozen=True, kw_only=True)
class Strong(ScoreAttack):
    """The pointwise worst case over the paper's attack, the clean image and the members of an ensemble.

    Every member attacks the detector's own score or a surrogate of it; the score alone judges what it finds. Detectors
    that are attacked together are offered each other's images. As an attack on one loss, such as a classifier's, it
    returns the best of the paper's attack and, except with `quick`, of APGD from noise and from the best so far.

    Attributes:
        epsilon: radius of the ball, in 1/255 of the pixel range for both norms: with norm l2, epsilon 128 is an L2
            radius of 128/255 = 0.502 in [0, 1] pixels.
        norm: linf, or l2: the Euclidean norm over all values of an image.
        preset: quick, the paper's attack and 10 steps on the score, for OOD images some of them towards one class;
            standard, ascent on the score and on other losses from several starts, and random search; extreme, the same
            with 500 steps and 5 times the starts.
        steps: gradient steps of each member; null for the preset's 10, 40 or 500.
        restarts: random starts of each member; null for the preset's 1, 1 or 5.
        members: names of the members, in their order (see `MemberName`); null for the preset's.
        queries: forward passes of the random search; null for the preset's 0, 100 or 1,000.
        epsilon_checks: number of images at the start of each set that are also attacked with twice the epsilon and
            without a limit, for the flags `bigger_epsilon` and `unlimited_epsilon`; null for the preset's 0, 16 or 16.
    """

    version: ClassVar[int] = 4
    """Part of the fingerprints of cells and tables: increase it when the same settings give other scores."""

    epsilon: Annotated[float, Ge(0)] = 1
    norm: Norm = "linf"
    preset: Literal["quick", "standard", "extreme"] = "standard"
    steps: PositiveInt | None = None
    restarts: PositiveInt | None = None
    members: Sequence[MemberName] | None = None
    queries: NonNegativeInt | None = None
    epsilon_checks: NonNegativeInt | None = None

    def __post_init__(self) -> None:
        if self.norm == "linf" and self.epsilon > 255:
            raise UserError(
                f"Strong: epsilon is in 1/255 pixel steps, at most 255 for norm linf (got {self.epsilon:g})"
            )

    @property
    def ball(self) -> Ball:
        """The ball around each image, with its radius in [0, 1] pixels."""
        return Ball(self.norm, self.epsilon / 255)

    @property
    def budget(self) -> Budget:
        """Steps, restarts and queries of the members."""
        preset = PRESETS[self.preset]
        return Budget(
            ball=self.ball,
            steps=self.steps or preset.steps,
            restarts=self.restarts or preset.restarts,
            queries=preset.queries if self.queries is None else self.queries,
        )

    @property
    def member_names(self) -> tuple[MemberName, ...]:
        """The members in the order in which they run."""
        return PRESETS[self.preset].members if self.members is None else tuple(self.members)

    @property
    def num_epsilon_checks(self) -> int:
        """Number of images of each set that are attacked in larger balls, too."""
        return PRESETS[self.preset].epsilon_checks if self.epsilon_checks is None else self.epsilon_checks

    def describe(self) -> str:
        """Return the settings except epsilon, such as `strong version 3 (quick, Linf): worst case of ...`."""
        budget = self.budget
        effort = f"{budget.steps} steps, {budget.restarts} start{'s' * (budget.restarts > 1)}"
        if "square" in self.member_names:
            effort += f", {budget.queries} queries"
        if self.num_epsilon_checks:
            effort += f", larger epsilons on {self.num_epsilon_checks} images"
        norm = "Linf" if self.norm == "linf" else "L2"
        return (
            f"strong version {self.version} ({self.preset}, {norm}): pointwise worst case, by the detector's own "
            f"score, of clean, paper, {', '.join(self.member_names)}; {effort}"
        )

    def __call__(
        self, images: Tensor, loss: LossFn, *, start: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Perturb images (N, 3, H, W) in [0, 1] so that they maximise one loss; see `Attack`."""
        check_images(images, start, None)
        clean, ball, budget = images.detach(), self.ball, self.budget
        noise = uniform_start(images.shape, generator, images) if start is None else start
        paper = self._paper(clean, loss, noise)
        best, best_loss = better([(clean, loss_of(clean, loss)), (paper, loss_of(paper, loss))])
        if self.preset != "quick":
            for begin in (ball.start(clean, noise), best):
                ascent = apgd(clean, loss, ball=ball, steps=budget.steps, start=begin)
                best, best_loss = better([(best, best_loss), (ascent.images, ascent.loss)])
        return best

    def attack_scores(
        self,
        images: Tensor,
        targets: Mapping[str, Target],
        *,
        clean_scores: Mapping[str, Tensor] | None = None,
        start: Tensor | None = None,
        seeds: ImageSeeds | None = None,
    ) -> dict[str, WorstCase]:
        """Return the worst case of each image for each detector; see `ScoreAttack`."""
        check_images(images, start, seeds)
        clean, budget = images.detach(), self.budget
        seeds = seeds or ImageSeeds.of(len(clean))
        noise = seeds.noise(clean, "start") if start is None else start.to(clean)
        papers: dict[str, Tensor] = {}
        attacked_logits: set[int] = set()
        pools: dict[str, Pool] = {}
        for name, target in targets.items():
            with torch.no_grad():
                known = None if clean_scores is None else clean_scores.get(name)
                first = target.score(clean).detach() if known is None else known
            pool = Pool(target, clean, first, random_score(target, clean, seeds), attacked_logits)
            if target.paper_loss is not None:
                key = target.paper_key or f"detector {name}"
                if key not in papers:
                    papers[key] = self._paper(clean, target.paper_loss, noise)
                pool.offer("paper", papers[key])
            for other in pools.values():
                pool.offer("transfer", other.images)
            for member in self.member_names:
                run_member(member, pool, budget, seeds, noise)
            pools[name] = pool
        names = list(pools)
        for position, name in enumerate(names):
            for other_name in names[position + 1 :]:
                pools[name].offer("transfer", pools[other_name].images)
        beyond = self._beyond(clean, targets, noise, seeds)
        return {name: replace(pool.result(), beyond=beyond.get(name, {})) for name, pool in pools.items()}

    def _beyond(
        self, clean: Tensor, targets: Mapping[str, Target], noise: Tensor, seeds: ImageSeeds
    ) -> dict[str, dict[str, Tensor]]:
        """Attack the first images of the set in larger balls, and return their scores by detector and ball."""
        if not self.num_epsilon_checks:
            return {}
        chosen = [k for k, position in enumerate(seeds.positions) if position < self.num_epsilon_checks]
        if not chosen:
            return {
                name: dict.fromkeys(("doubled", "unlimited"), noise.new_full((len(clean),), torch.nan))
                for name in targets
            }
        largest = 255.0 if self.norm == "linf" else 255.0 * clean[0].numel() ** 0.5
        found: dict[str, dict[str, Tensor]] = {name: {} for name in targets}
        positions = ImageSeeds(seeds.key, [seeds.positions[k] for k in chosen])
        for ball, epsilon in (("doubled", min(2 * self.epsilon, largest)), ("unlimited", largest)):
            attack = replace(self, epsilon=epsilon, epsilon_checks=0)
            worst = attack.attack_scores(clean[chosen], targets, start=noise[chosen], seeds=positions)
            for name, case in worst.items():
                found[name][ball] = case.score.new_full((len(clean),), torch.nan)
                found[name][ball][chosen] = case.score
        return found

    def _paper(self, clean: Tensor, loss: LossFn, noise: Tensor) -> Tensor:
        """Return the images of the paper's attack: PGD, 10 steps of 1/255, from noise, last iterate.

        In an L2 ball, which the paper does not use, steps of 2.5 eps / 10 and the best iterate.
        """
        if self.norm == "linf":
            eps, size = self.epsilon / 255, 1 / 255
            return pgd_linf(clean, loss, eps=eps, step_size=size, steps=PAPER_STEPS, random_start=noise)
        start, size = self.ball.start(clean, noise), 2.5 * self.ball.eps / PAPER_STEPS
        return best_pgd(clean, loss, ball=self.ball, step_size=size, steps=PAPER_STEPS, start=start).images
