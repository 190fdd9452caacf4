"""A unit test of attacks on a detector: a model in which an adversarial example must exist inside the ball.

After Zimmermann et al., Increasing Confidence in Adversarial Robustness Evaluations (arXiv:2206.13991): an attack that
does not find a planted example says nothing where it finds none.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from aloe_lightning.attacks.algorithm_1 import Membership
from aloe_lightning.attacks.ball import Ball, Norm, l2_norms
from aloe_lightning.attacks.ensemble.strong import ScoreAttack, Strong
from aloe_lightning.attacks.ensemble.target import ImageSeeds, Target
from aloe_lightning.attacks.freeze import frozen_eval
from aloe_lightning.attacks.linf import LossFn
from aloe_lightning.attacks.pgd import Attack
from aloe_lightning.runtime.seeding import generator

REACHED = 0.95


@runtime_checkable
class Targeted(Protocol):
    """A detector bound to a net, which says how its score may be attacked."""

    def target(self, membership: Membership) -> Target:
        """Return the score as an attack sees it."""
        ...


@dataclass(frozen=True)
class PlantedReport:
    """Shares of planted adversarial examples that an attack found.

    Attributes:
        found: bool (N,) by membership: whether the attack moved the score at least 95 % as far as the planted example.
    """

    found: dict[Membership, Tensor]

    @property
    def share(self) -> float:
        """Share of all planted examples that were found, in [0, 1]."""
        return float(torch.cat(list(self.found.values())).double().mean())

    def __str__(self) -> str:
        parts = [f"{side}: {int(mask.sum())} of {len(mask)}" for side, mask in self.found.items()]
        return f"planted adversarial examples found: {', '.join(parts)} ({self.share:.0%})"


class PlantedNet(nn.Module):
    """A net whose logits are scaled so that confidence has its extreme at a planted point near each image.

    Near an image the logits are those of the clean image times a scale, which falls (`id`) or rises (`ood`) linearly
    towards the planted point along one direction, so that an attack with constant steps passes over the point.

    Args:
        logits: logits (M, K) of the clean images, whose scale does not matter.
        clean: images (M, 3, H, W) near which examples are planted.
        ball: the ball around them.
        membership: `id` plants low confidence, `ood` high confidence.
        seed: of directions and places.
    """

    def __init__(self, logits: Tensor, clean: Tensor, ball: Ball, membership: Membership, seed: int = 0) -> None:
        super().__init__()
        draws = generator(seed, "planted", membership)
        direction = (torch.rand(clean.shape, generator=draws) - 0.5).sign()
        # The projection on this direction is 1 at the farthest point of the ball along it.
        size = direction[0].numel() if ball.norm == "linf" else direction[0].numel() ** 0.5
        self.membership, self.unit = membership, ball.eps * size
        centred = logits - logits.mean(dim=1, keepdim=True)
        self.logits = nn.Buffer(4 * centred / centred.amax(dim=1, keepdim=True))
        self.direction, self.clean = nn.Buffer(direction), nn.Buffer(clean)
        self.place = nn.Buffer(0.3 + 0.6 * torch.rand(len(clean), generator=draws))
        moved = direction / (1 if ball.norm == "linf" else l2_norms(direction))
        self.planted = nn.Buffer(clean + ball.eps * self.place.view(-1, 1, 1, 1) * moved)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, K) of images near the clean ones."""
        with torch.no_grad():
            nearest = torch.cdist(images.flatten(1), self.clean.flatten(1)).argmin(1)
        along = ((images - self.clean[nearest]) * self.direction[nearest]).flatten(1).sum(1) / self.unit
        distance = (along - self.place[nearest]).abs()
        scale = 0.5 + distance if self.membership == "id" else 2.0 - distance
        return scale.unsqueeze(1) * self.logits[nearest]


def attack_unit_test(
    fit: Callable[[nn.Module], Targeted | LossFn],
    attack: ScoreAttack | Attack,
    *,
    net: nn.Module | None = None,
    num_classes: int = 10,
    epsilon: float = 1,
    norm: Norm = "linf",
    num_images: int = 40,
    size: int = 32,
    seed: int = 0,
) -> PlantedReport:
    """Plant adversarial examples in a small model and return the share that an attack finds.

    Examples for in-distribution images and for OOD images are planted in two models. The detector's own score judges:
    an example is found if the attack moves the score at least 95 % as far from the clean one as the planted example.

    Args:
        fit: binds a detector to a net of logits, such as `lambda net: MSP().fit(net)`; or returns a differentiable
            score function images -> (N,), higher = more in-distribution.
        attack: `Strong`, or a plain attack, which maximises the paper's loss, or the score where there is none.
        net: images (N, 3, size, size) -> logits (N, K), the small net that is changed; None for random logits.
        num_classes: number K of random logits.
        epsilon: radius of the ball in 1/255 of the pixel range, the attack's own.
        norm: norm of the ball.
        num_images: number of images of each membership.
        size: height and width of the images in pixels.
        seed: of images and planted points.

    Raises:
        ValueError: if the attack leaves the ball, or planting an example does not change the detector's score.
    """
    ball, found = Ball(norm, epsilon / 255), {}
    sides: tuple[Membership, Membership] = ("id", "ood")
    for membership in sides:
        clean = 0.2 + 0.6 * torch.rand(num_images, 3, size, size, generator=generator(seed, "images", membership))
        if net is None:
            logits = torch.randn(num_images, num_classes, generator=generator(seed, "logits", membership))
        else:
            with frozen_eval(net), torch.no_grad():
                logits = net(clean)
        planted_net = PlantedNet(logits, clean, ball, membership, seed).eval()
        with frozen_eval(planted_net):
            bound = fit(planted_net)
            target = bound.target(membership) if isinstance(bound, Targeted) else of_score(bound, membership)
            attacked = _attacked(attack, clean, target, seed)
            change, limit = attacked - clean, ball.eps * (1 + 1e-4) + 1e-6
            largest = change.abs().amax() if norm == "linf" else l2_norms(change).amax()
            if largest > limit or attacked.amin() < 0 or attacked.amax() > 1:
                raise ValueError(f"the attack leaves the ball: {float(largest):.6f} from the clean image")
            with torch.no_grad():
                before, after, planted = (target.score(x).double() for x in (clean, attacked, planted_net.planted))
        sign = -1 if membership == "id" else 1
        reach = sign * (planted - before)
        if not (reach > 0).all():
            raise ValueError(
                "a planted example does not move the score of its image: the detector reads something else than the "
                "logits, or moves its input by a step that is large beside epsilon (then give a larger epsilon)"
            )
        found[membership] = sign * (after - before) >= REACHED * reach
    return PlantedReport(found)


def of_score(score: LossFn, membership: Membership) -> Target:
    """Return the target of a differentiable score function images -> (N,)."""
    return Target(membership=membership, score=score, objective=score)


def _attacked(attack: ScoreAttack | Attack, clean: Tensor, target: Target, seed: int) -> Tensor:
    seeds = ImageSeeds((seed, target.membership), range(len(clean)))
    if isinstance(attack, Strong):
        attack = replace(attack, epsilon_checks=0)
    if isinstance(attack, ScoreAttack):
        return attack.attack_scores(clean, {"": target}, seeds=seeds)[""].images
    loss = target.paper_loss or (None if target.objective is None else target.directed(target.objective))
    if loss is None:
        raise ValueError("a plain attack requires a differentiable score")
    return attack(clean, loss, start=seeds.noise(clean, "start"))
