"""Members of the ensemble: each attacks one detector by one loss with one method, and offers what it finds."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor

from aloe_lightning.attacks.apgd import apgd
from aloe_lightning.attacks.ascent import Ascent, best_pgd
from aloe_lightning.attacks.ball import Ball
from aloe_lightning.attacks.ensemble.logit_losses import centred, margin
from aloe_lightning.attacks.ensemble.quick import (
    ANNEALED,
    TARGET_CLASSES,
    annealed_momentum,
    class_log_odds,
    climb_fast,
    target_one_class,
)
from aloe_lightning.attacks.ensemble.target import ImageSeeds, Pool
from aloe_lightning.attacks.linf import LossFn
from aloe_lightning.attacks.square import square

MemberName = Literal[
    "target_class",
    "fast",
    "score",
    "momentum",
    "margin",
    "centred",
    "surrogate",
    "classes",
    "pgd",
    "square",
    "polish",
]
"""Names of the members.

- `target_class`: OOD images only, annealed momentum on the log-odds of one class, with 1/5 of the steps: of the 3 most
  probable classes, the one whose log-odds may rise highest in the ball by the gradient at the clean image; from the
  point of the ball where that gradient leads. Once for all detectors on the same logits: the others are offered the
  worst images of the first.
- `fast`: annealed momentum on the objective, or with 6/5 of the steps on the detector's cheap approximation of it; from
  the best so far. After `target_class` with 2/5 of the steps less. The step of the input, by which the approximation
  may differ from the objective, is allowed for to first order.
- `score`: APGD on the objective, the detector's score in a form that does not saturate; from noise.
- `momentum`: annealed momentum on the objective; from the clean image and from four draws of noise.
- `margin`: APGD on the difference between the two largest logits; from noise.
- `centred`: APGD on the largest logit above the mean of all; from noise.
- `surrogate`: APGD on the loss of the paper's attack; from noise.
- `classes`: OOD images only, APGD on the log-odds of the 2nd, 3rd and 4th most probable class; from noise.
- `pgd`: PGD with steps of 2.5 eps / steps on the objective; from noise.
- `square`: random search by squares on the objective; from the best so far. It needs no gradient.
- `polish`: annealed momentum on the objective, with first steps of a quarter of eps; from the best so far.

Annealed momentum takes steps along the sum of all gradients, each a tenth lighter than the next, and the length of the
steps falls from eps to 0 as half a cosine (for `fast` and `target_class` from 2 eps, and later). It passes over low
maxima first and climbs to the top of one at the end.
A member whose loss a detector does not have (logits, a gradient) is left out for this detector.
"""
ON_OBJECTIVE = ("score", "momentum", "pgd", "polish")
FROM_BEST = ("square", "polish")
NOISY_STARTS = 4


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The effort of each member.

    Attributes:
        ball: the ball around each image.
        steps: gradient steps.
        restarts: starts of each member that starts from noise, at least 1.
        queries: forward passes of the gradient-free member.
    """

    ball: Ball
    steps: int
    restarts: int
    queries: int


def losses_of(name: str, pool: Pool) -> Iterator[LossFn]:
    """Yield the losses of a member for the detector of a pool; none if the detector does not have them."""
    target, logits = pool.target, pool.target.logits
    if name in ON_OBJECTIVE and target.objective is not None:
        yield target.directed(target.objective)
    elif name == "surrogate" and target.paper_loss is not None:
        yield target.paper_loss
    elif name == "margin" and logits is not None:
        yield target.directed(lambda x: margin(logits(x)))
    elif name == "centred" and logits is not None:
        yield target.directed(lambda x: centred(logits(x)))
    elif name == "classes" and logits is not None and target.membership == "ood":
        for classes in pool.likely_classes.unbind(1)[1 : 1 + TARGET_CLASSES]:  # `score` begins with the first
            yield partial(class_log_odds, logits, classes)


def run_member(name: MemberName, pool: Pool, budget: Budget, seeds: ImageSeeds, noise: Tensor) -> None:
    """Attack the images of a pool by one member and offer the pool what it finds.

    Args:
        name: the member.
        pool: the images, and the worst so far.
        budget: effort.
        seeds: randomness of each image.
        noise: noise in [-1, 1] of the images' shape, which chooses the first start.
    """
    if name == "square":
        _search(pool, budget, seeds)
        return
    if name == "target_class":
        target_one_class(pool, budget.ball, budget.steps)
        return
    if name == "fast":
        climb_fast(pool, budget.ball, budget.steps)
        return
    for loss in losses_of(name, pool):
        for start in _starts(name, pool, budget, seeds, noise):
            ascent = _climb(name, pool.clean, loss, budget, start)
            if name in ON_OBJECTIVE:
                pool.observe(ascent)
            pool.offer(name, ascent.images)


def _starts(name: str, pool: Pool, budget: Budget, seeds: ImageSeeds, noise: Tensor) -> Iterator[Tensor]:
    if name in FROM_BEST:
        yield pool.images
        return
    if name == "momentum":
        yield pool.clean
    for number in range(budget.restarts * (NOISY_STARTS if name == "momentum" else 1)):
        draw = noise if number == 0 else seeds.noise(pool.clean, f"{name} start {number}")
        yield budget.ball.start(pool.clean, draw)


def _climb(name: str, clean: Tensor, loss: LossFn, budget: Budget, start: Tensor) -> Ascent:
    ball, steps = budget.ball, budget.steps
    if name == "pgd":
        return best_pgd(clean, loss, ball=ball, step_size=2.5 * ball.eps / steps, steps=steps, start=start)
    if name in ANNEALED:
        return annealed_momentum(name, clean, loss, ball, steps, start)
    return apgd(clean, loss, ball=ball, steps=steps, start=start)


def _search(pool: Pool, budget: Budget, seeds: ImageSeeds) -> None:
    """Search at random from the worst images so far."""
    target = pool.target
    loss = target.directed(target.score if target.objective is None else target.objective)
    for restart in range(budget.restarts):
        found = square(
            pool.clean,
            loss,
            ball=budget.ball,
            queries=budget.queries,
            generators=seeds.generators(f"square {restart}"),
            start=pool.images,
        )
        pool.offer("square", found.images)
