"""The attack class: its arguments, its description of itself, and the pure function below it."""

import pytest
import torch

from aloe_lightning.attacks import PGD, pgd_linf
from aloe_lightning.errors import UserError


def brightness(images):
    return torch.sin(7 * images).sum((1, 2, 3))


@pytest.mark.parametrize("rounding", ["none", "nearest", "truncate"])
def test_equals_the_pure_function(images, rounding):
    attack = PGD(epsilon=3, step_size=2, steps=4, rounding=rounding)
    settings = {"eps": 3 / 255, "step_size": 2 / 255, "steps": 4, "rounding": rounding}

    def draws():
        return torch.Generator().manual_seed(5)

    assert torch.equal(
        attack(images, brightness, generator=draws()), pgd_linf(images, brightness, generator=draws(), **settings)
    )
    start = torch.rand(images.shape, generator=draws()) * 2 - 1
    assert torch.equal(
        attack(images, brightness, start=start), pgd_linf(images, brightness, random_start=start, **settings)
    )


def test_a_given_start_makes_it_repeatable_and_no_start_means_the_image(images):
    start = torch.rand(images.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    attack = PGD(epsilon=4, steps=0)
    torch.testing.assert_close(attack(images, brightness, start=start), (images + start * 4 / 255).clamp(0, 1))
    unmoved = PGD(epsilon=4, steps=0, random_start=False)
    assert torch.equal(unmoved(images, brightness, start=start), images)


@pytest.mark.parametrize(("epsilon", "steps"), [(0, 1), (1, 2), (2, 3), (4, 5), (1.5, 2)])
def test_steps_are_the_papers_unless_given(epsilon, steps, images):
    calls = []

    def counting(x):
        calls.append(len(x))
        return x[:, 0, 0, 0]

    PGD(epsilon=epsilon)(images, counting)
    assert len(calls) == steps
    assert PGD(epsilon=epsilon).num_steps == steps
    assert PGD(epsilon=epsilon, steps=7).num_steps == 7


def test_it_describes_everything_but_its_budget():
    assert PGD(epsilon=4, steps=10).describe() == "PGD, 10 steps of 1/255, random start, rounding none"
    assert (
        PGD(epsilon=1, step_size=0.5, random_start=False).describe()
        == "PGD, 2 steps of 0.5/255, no random start, rounding none"
    )
    assert PGD(epsilon=1, steps=10).describe() == PGD(epsilon=8, steps=10).describe()


@pytest.mark.parametrize("rounding", ["nearest", "truncate"])
@pytest.mark.parametrize("fraction", [{"epsilon": 1.6}, {"step_size": 0.5}])
def test_rounding_requires_whole_steps_at_construction(rounding, fraction):
    with pytest.raises(UserError, match=f"rounding={rounding} requires epsilon and step_size to be whole"):
        PGD(rounding=rounding, **fraction)
    PGD(**fraction)


@pytest.mark.parametrize(
    "wrong", [{"epsilon": -1}, {"epsilon": 256}, {"step_size": 0}, {"steps": -1}, {"steps": 2.5}, {"rounding": "up"}]
)
def test_values_out_of_range_are_named(wrong):
    with pytest.raises(UserError, match=f"PGD: {next(iter(wrong))}: "):
        PGD(**wrong)


def test_one_step_of_more_than_epsilon_is_projected_on_the_ball(images):
    """The step of fast adversarial training, 1.25 epsilon from a random start: a closed form for a linear loss."""
    sign = torch.randn(images.shape, generator=torch.Generator().manual_seed(1)).sign()
    start = torch.rand(images.shape, generator=torch.Generator().manual_seed(2)) * 2 - 1
    attack = PGD(epsilon=2, step_size=2.5, steps=1)
    perturbed = attack(images, lambda x: (x * sign).sum((1, 2, 3)), start=start)
    begun = ((images + start * 2 / 255).clamp(0, 1) - images) * 255
    expected = (images + (begun + 2.5 * sign).clamp(-2, 2) / 255).clamp(0, 1)
    torch.testing.assert_close(perturbed, expected)
    assert 0.3 < ((perturbed - images).abs() < 1.99 / 255).float().mean() < 0.6  # a start far enough off stays inside
