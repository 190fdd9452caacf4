"""`python -m benchmarks.peer_attacks --data DIR --golden DIR`: attacks of foolbox and torchattacks against `standard`.

Each gets the same loss (the detector's objective), radius and images, and at least as many gradients as one member of
`standard`. Prints the share of images on which it ends with a worse score than `standard`, and by how much at most.
Requires foolbox and torchattacks, which are not dependencies of this project.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from aloe_lightning.attacks import Membership, Strong, Target, frozen_eval
from aloe_lightning.detectors import MSP, ODIN
from benchmarks.strong_attack import image_sets, robust_cnn

OFFSET = 1000.0
"""Added to the first logit where an attack stops at the first misclassification, so that it never stops."""


class TwoClasses(nn.Module):
    """Logits (N, 2), -loss and 0: an attack on the first class maximises the loss."""

    def __init__(self, loss: Callable[[Tensor], Tensor], offset: float = 0.0) -> None:
        super().__init__()
        self.loss, self.offset, self.device_of = loss, offset, nn.Parameter(torch.zeros(1), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of images."""
        value = self.offset - self.loss(images).float()
        return torch.stack([value, torch.zeros_like(value)], dim=1)


def peers(target: Target, x: Tensor, eps: float, seed: int) -> dict[str, Tensor]:
    """Return the images of each attack; their random starts are torch's own, whatever the attacks' arguments."""
    import foolbox
    import torchattacks

    torch.manual_seed(seed)

    assert target.objective is not None
    loss = target.directed(target.objective)
    labels = torch.zeros(len(x), dtype=torch.long)
    model = TwoClasses(loss).eval()
    found: dict[str, Tensor] = {}

    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")

    def raw_loss(self: object, model: Callable[[Tensor], Tensor], labels: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda inputs: -model(inputs)[:, 0].sum()

    for name, kind in (
        ("foolbox LinfPGD", foolbox.attacks.LinfProjectedGradientDescentAttack),
        ("foolbox LinfAdamPGD", foolbox.attacks.LinfAdamProjectedGradientDescentAttack),
        ("foolbox LinfBasicIterative", foolbox.attacks.LinfBasicIterativeAttack),
    ):
        attack = type(name, (kind,), {"get_loss_fn": raw_loss})(rel_stepsize=0.1, steps=40)
        found[name] = attack.run(wrapped, x, foolbox.criteria.Misclassification(labels), epsilon=eps)
    apgd = torchattacks.APGD(model, norm="Linf", eps=eps, steps=40, n_restarts=1, seed=0, loss="ce")
    found["torchattacks APGD"] = apgd.attack_single_run(x, labels)[0]
    search = torchattacks.Square(TwoClasses(loss, OFFSET).eval(), norm="Linf", eps=eps, n_queries=500, seed=0)
    search.init_hyperparam(x)
    found["torchattacks Square"] = search.attack_single_run(x, labels)[1]
    for name in ("PGD", "MIFGSM", "NIFGSM"):
        attack = getattr(torchattacks, name)(model, eps=eps, alpha=eps / 10, steps=40)
        found[f"torchattacks {name}"] = attack(x, labels)
    return {name: (x + (adversarial.detach() - x).clamp(-eps, eps)).clamp(0, 1) for name, adversarial in found.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peer_attacks", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--golden", type=Path, required=True)
    parser.add_argument("--epsilon", type=float, default=1.0)
    parser.add_argument("--images", type=int, default=100, help="images of each membership")
    parser.add_argument("--seed", type=int, default=0, help="of the random starts")
    options = parser.parse_args()
    net = robust_cnn(options.golden / "robust_cnn_cifar10.npz")
    id_set, ood_sets = image_sets(options.data, options.images, options.images)
    sides: dict[Membership, Tensor] = {"id": id_set.images, "ood": ood_sets["textures"].images}
    worse: dict[tuple[str, str], list[Tensor]] = {}
    with frozen_eval(net):
        for detector in (MSP(), ODIN()):
            for membership, pixels in sides.items():
                x = pixels.float() / 255
                target = detector.fit(net).target(membership)
                worst = Strong(epsilon=options.epsilon).attack_scores(x, {"": target})[""].score
                for name, adversarial in peers(target, x, options.epsilon / 255, options.seed).items():
                    with torch.no_grad():
                        gap = target.sign * (target.score(adversarial) - worst) / worst.abs()
                    worse.setdefault((detector.title, name), []).append(gap)
    print("| detector | attack | worse than standard on | largest difference of the score |\n|:--|:--|--:|--:|")
    for (title, name), gaps in worse.items():
        gap = torch.cat(gaps)
        print(f"| {title} | {name} | {(gap > 1e-6).double().mean():.1%} | {gap.amax().clamp(min=0):.2%} |")


if __name__ == "__main__":
    main()
