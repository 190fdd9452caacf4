"""Annealed momentum, and the two members of the preset `quick`, whose steps are counted: `target_class` and `fast`."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from aloe_lightning.attacks.ascent import Ascent, Estimate, Schedule, best_pgd, half_cosine, late_fall
from aloe_lightning.attacks.ball import Ball
from aloe_lightning.attacks.ensemble.logit_losses import log_odds
from aloe_lightning.attacks.ensemble.target import Pool
from aloe_lightning.attacks.linf import LossFn

TARGET_CLASSES, DECAY = 3, 0.9
ANNEALED: dict[str, tuple[float, Schedule]] = {
    "target_class": (2.0, late_fall),
    "fast": (2.0, late_fall),
    "momentum": (1.0, half_cosine),
    "polish": (0.25, half_cosine),
}
"""First steps of annealed momentum, in units of the radius, and the schedule by which they fall."""
LOOK_AHEAD = 1.2
"""The point at which `fast` takes the gradient on OOD images is so many input steps farther out."""


def annealed_momentum(
    name: str, clean: Tensor, loss: LossFn, ball: Ball, steps: int, start: Tensor, estimate: Estimate | None = None
) -> Ascent:
    """Climb a loss by the steps of a member of `ANNEALED`; see `best_pgd`."""
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


def climb_fast(pool: Pool, ball: Ball, steps: int) -> None:
    """Climb the objective or its approximation from the worst image so far, and offer what is found.

    Args:
        pool: the images; nothing is done if the score has no gradient.
        ball: the ball around each image.
        steps: steps on the objective of an image that no class was chosen for.
    """
    target = pool.target
    fewer = 2 if id(target.logits) in pool.attacked_logits else 0
    if target.approximation is not None:
        ascent = _climb_approximation(pool, ball, _fifths(steps, 6 - fewer))
    elif target.objective is not None:
        loss = target.directed(target.objective)
        ascent = annealed_momentum("fast", pool.clean, loss, ball, _fifths(steps, 5 - fewer), pool.images)
        pool.observe(ascent)
    else:
        return
    pool.offer("fast", ascent.images)


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
        return annealed_momentum("fast", clean, loss, ball, steps, pool.images)

    def to_first_order(loss: Tensor, gradient: Tensor) -> Tensor:
        return loss + target.sign * target.input_step * gradient.flatten(1).abs().sum(1)

    loss, estimate = target.directed(approximation), to_first_order if target.input_step else None
    return annealed_momentum("fast", clean, loss, ball, steps, pool.images, estimate)


def target_one_class(pool: Pool, ball: Ball, steps: int) -> None:
    """Attack OOD images towards the class that promises the highest log-odds, once for all detectors on the logits."""
    logits = pool.target.logits
    if logits is None or pool.target.membership == "id":
        return
    if id(logits) in pool.attacked_logits:
        return
    pool.attacked_logits.add(id(logits))
    classes, start = _promising_class(pool.clean, logits, ball)
    loss = partial(class_log_odds, logits, classes)
    ascent = annealed_momentum("target_class", pool.clean, loss, ball, _fifths(steps, 1), start)
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


def class_log_odds(logits: Callable[[Tensor], Tensor], classes: Tensor, images: Tensor) -> Tensor:
    """Return the log-odds (N,) of one class for each image."""
    return log_odds(logits(images), classes=classes)


def _fifths(steps: int, count: int) -> int:
    """Return so many fifths of the steps, rounded up."""
    return -(-steps * count // 5)
