"""Members of the ensemble: each attacks one detector by one loss with one method, and offers what it finds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from aloe_lightning.attacks.apgd import apgd
from aloe_lightning.attacks.ascent import Ascent, Estimate, Schedule, best_pgd, half_cosine, late_fall
from aloe_lightning.attacks.ball import Ball
from aloe_lightning.attacks.ensemble.logit_losses import centred, log_odds, margin
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
FROM_BEST = ("fast", "square", "polish")
TARGET_CLASSES, NOISY_STARTS, DECAY = 3, 4, 0.9
ANNEALED: dict[str, tuple[float, Schedule]] = {
    "target_class": (2.0, late_fall),
    "fast": (2.0, late_fall),
    "momentum": (1.0, half_cosine),
    "polish": (0.25, half_cosine),
}
"""First steps of annealed momentum, in units of the radius, and the schedule by which they fall."""
LOOK_AHEAD = 1.2
"""The point at which `fast` takes the gradient on OOD images is so many input steps farther out."""


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
    on_objective = name in ON_OBJECTIVE or (name == "fast" and target.approximation is None)
    if on_objective and target.objective is not None:
        yield target.directed(target.objective)
    elif name == "surrogate" and target.paper_loss is not None:
        yield target.paper_loss
    elif name == "margin" and logits is not None:
        yield target.directed(lambda x: margin(logits(x)))
    elif name == "centred" and logits is not None:
        yield target.directed(lambda x: centred(logits(x)))
    elif name == "classes" and logits is not None and target.membership == "ood":
        for classes in pool.likely_classes.unbind(1)[1 : 1 + TARGET_CLASSES]:  # `score` begins with the first
            yield partial(_class_log_odds, logits, classes)


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
        _target_one_class(pool, budget)
        return
    steps = budget.steps
    if name == "fast":
        fifths = 5 if pool.target.approximation is None else 6
        steps = _fifths(steps, fifths - 2 * (id(pool.target.logits) in pool.attacked_logits))
    if name == "fast" and pool.target.approximation is not None:
        pool.offer(name, _climb_approximation(pool, budget.ball, steps).images)
        return
    for loss in losses_of(name, pool):
        for start in _starts(name, pool, budget, seeds, noise):
            ascent = _climb(name, pool.clean, loss, budget.ball, steps, start)
            if name in (*ON_OBJECTIVE, "fast"):
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


def _class_log_odds(logits: Callable[[Tensor], Tensor], classes: Tensor, images: Tensor) -> Tensor:
    return log_odds(logits(images), classes=classes)


def _fifths(steps: int, count: int) -> int:
    """Return so many fifths of the steps, rounded up."""
    return -(-steps * count // 5)


def _climb(
    name: str, clean: Tensor, loss: LossFn, ball: Ball, steps: int, start: Tensor, estimate: Estimate | None = None
) -> Ascent:
    if name == "pgd":
        return best_pgd(clean, loss, ball=ball, step_size=2.5 * ball.eps / steps, steps=steps, start=start)
    if name in ANNEALED:
        first, schedule = ANNEALED[name]
        return best_pgd(
            clean,
            loss,
            ball=ball,
            step_size=first * ball.eps,
            steps=steps,
            start=start,
            decay=DECAY,
            schedule=schedule,
            estimate=estimate,
        )
    return apgd(clean, loss, ball=ball, steps=steps, start=start)


def _climb_approximation(pool: Pool, ball: Ball, steps: int) -> Ascent:
    """Climb the approximation A of the objective A(x + h * sign(A'(x))), from the worst image so far.

    To first order the objective is A(x) + h * |A'(x)|_1, which chooses the iterate. On OOD images the step leads where
    the attack leads, so that it is foreseen: gradient and choice are those of A at x + 1.2 h (x - clean) / eps. In an
    L2 ball the directions differ, and they are those of A at x.
    """
    target, clean, approximation = pool.target, pool.clean, pool.target.approximation
    assert approximation is not None
    if target.membership == "ood":
        farther = LOOK_AHEAD * target.input_step / ball.eps if ball.norm == "linf" and ball.eps else 0.0
        loss = target.directed(lambda x: approximation(x + farther * (x - clean)))
        return _climb("fast", clean, loss, ball, steps, pool.images)

    def to_first_order(loss: Tensor, gradient: Tensor) -> Tensor:
        return loss + target.sign * target.input_step * gradient.flatten(1).abs().sum(1)

    loss, estimate = target.directed(approximation), to_first_order if target.input_step else None
    return _climb("fast", clean, loss, ball, steps, pool.images, estimate)


def _target_one_class(pool: Pool, budget: Budget) -> None:
    """Attack OOD images towards the class that promises the highest log-odds, once for all detectors on the logits."""
    logits = pool.target.logits
    if logits is None or pool.target.membership == "id":
        return
    if id(logits) in pool.attacked_logits:
        return
    pool.attacked_logits.add(id(logits))
    classes, start = _promising_class(pool.clean, logits, budget.ball)
    loss = partial(_class_log_odds, logits, classes)
    ascent = _climb("target_class", pool.clean, loss, budget.ball, _fifths(budget.steps, 1), start)
    pool.offer("target_class", ascent.images)


def _promising_class(clean: Tensor, logits: Callable[[Tensor], Tensor], ball: Ball) -> tuple[Tensor, Tensor]:
    """Return the class (N,) that to first order may rise highest in the ball, and the point where it does.

    The log-odds l_c rise to l_c + eps * (g_c . s(g_c)) at the clean image's gradient g_c and steepest direction s. One
    forward pass serves the most probable classes.
    """
    with torch.inference_mode(False), torch.enable_grad():
        x = clean.clone().requires_grad_(True)
        z = logits(x)
        candidates = z.detach().argsort(dim=1, descending=True)[:, :TARGET_CLASSES]
        values = [log_odds(z, classes=classes) for classes in candidates.unbind(1)]
        gradients = [torch.autograd.grad(value.sum(), x, retain_graph=True)[0].nan_to_num() for value in values]
    directions = [ball.steepest(gradient) for gradient in gradients]
    rises = [(g * s).flatten(1).sum(1) for g, s in zip(gradients, directions, strict=True)]
    promises = torch.stack(values, 1).detach() + ball.eps * torch.stack(rises, 1)
    chosen = promises.argmax(1)
    images = torch.arange(len(clean), device=clean.device)
    start = ball.project(clean + ball.eps * torch.stack(directions, 1)[images, chosen], clean)
    return candidates[images, chosen], start


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
