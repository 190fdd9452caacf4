import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aloe_lightning.attacks import frozen_eval, pgd_linf
from aloe_lightning.losses import cross_entropy, uniform_cross_entropy

STEP = 1 / 255


def linear(weight):
    return lambda x: (x * weight).sum((1, 2, 3))


def eight_bit(shape, seed=0):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed)).float() / 255


@settings(max_examples=30, deadline=None)
@given(
    eps=st.integers(0, 20),
    step_size=st.integers(1, 6),
    steps=st.integers(0, 6),
    rounding=st.sampled_from(["none", "nearest", "truncate"]),
    random_start=st.booleans(),
    seed=st.integers(0, 100),
)
def test_stays_in_the_ball_and_in_the_unit_cube(eps, step_size, steps, rounding, random_start, seed):
    x = eight_bit((3, 3, 8, 8), seed)
    x[0] = 0
    x[1] = 1
    weight = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(seed))
    adversarial = pgd_linf(
        x,
        lambda z: torch.sin(20 * z * weight).sum((1, 2, 3)),
        eps=eps * STEP,
        step_size=step_size * STEP,
        steps=steps,
        random_start=random_start,
        rounding=rounding,
        generator=torch.Generator().manual_seed(seed),
    )
    assert (adversarial - x).abs().max() <= eps * STEP + 1e-6
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    if rounding != "none":
        on_grid = ((adversarial - x) * 255).round()
        torch.testing.assert_close((adversarial - x) * 255, on_grid, atol=1e-3, rtol=0)


@pytest.mark.parametrize("rounding", ["none", "nearest"])
def test_reaches_the_closed_form_optimum_of_a_linear_loss(rounding):
    x = eight_bit((4, 3, 8, 8))
    weight = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(3))
    eps = 6 * STEP
    adversarial = pgd_linf(x, linear(weight), eps=eps, step_size=STEP, steps=12, rounding=rounding)
    torch.testing.assert_close(adversarial, (x + eps * weight.sign()).clamp(0, 1), atol=1e-6, rtol=0)


def test_truncation_stalls_near_three_steps_as_the_authors_code_does():
    x = eight_bit((4, 3, 32, 32))
    for eps, reached in ((2, 2.0), (3, 3.0), (8, 3.0)):
        adversarial = pgd_linf(
            x, linear(torch.ones(3, 32, 32)), eps=eps * STEP, step_size=STEP, steps=20, random_start=False,
            rounding="truncate",
        )  # fmt: skip
        inner = x < 1 - 8 * STEP
        assert ((adversarial - x) * 255)[inner].median().item() == pytest.approx(reached, abs=1e-3)


@pytest.mark.parametrize("epsilon", [1, 2, 4])
def test_truncation_is_the_authors_arithmetic_pixel_by_pixel(epsilon):
    """Against a slow loop over single pixels, where the sign of the gradient is known: equal to the last bit."""
    draws = torch.Generator().manual_seed(epsilon)
    x, weights = torch.rand(2, 3, 4, 4, generator=draws), torch.randn(3, 4, 4, generator=draws)
    start = torch.rand(x.shape, generator=draws) * 2 - 1
    settings = {"eps": epsilon * STEP, "step_size": STEP, "steps": 6, "random_start": start, "rounding": "truncate"}
    adversarial = pgd_linf(x, linear(weights), **settings).numpy()
    one, full = np.float32(1), np.float32(255)
    for place in np.ndindex(*x.shape):
        pixel, sign = x.numpy()[place], np.sign(weights.numpy()[place[1:]])

        def valid(delta, pixel=pixel):
            inside = np.float32(min(max(delta, -epsilon), epsilon))
            return np.float32((min(max(pixel + inside / full, 0 * one), one) - pixel) * full)

        delta = valid(np.trunc(start.numpy()[place] * np.float32(epsilon)))
        for _ in range(6):
            delta = valid(np.trunc(delta + sign))
        assert adversarial[place] == min(max(pixel + delta / full, 0 * one), one)


def test_truncated_random_start_is_zero_at_one_step():
    x = eight_bit((2, 3, 8, 8))
    start = pgd_linf(x, linear(torch.ones(3, 8, 8)), eps=STEP, step_size=STEP, steps=0, rounding="truncate")
    assert torch.equal(start, x)


def test_random_start_is_uniform_in_the_ball_and_replays_from_its_seed():
    x = torch.full((8, 3, 32, 32), 0.5)

    def start(seed):
        return pgd_linf(
            x, linear(torch.ones(3, 32, 32)), eps=0.1, step_size=0.1, steps=0,
            generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip

    assert torch.equal(start(5), start(5))
    assert not torch.equal(start(5), start(6))
    delta = (start(5) - x).flatten()
    assert delta.mean().item() == pytest.approx(0, abs=1e-3)
    assert delta.var().item() == pytest.approx(0.2**2 / 12, rel=0.02)


def test_a_given_start_is_in_units_of_eps():
    x = torch.full((2, 3, 4, 4), 0.5)
    start = pgd_linf(
        x, linear(torch.ones(3, 4, 4)), eps=0.1, step_size=0, steps=0, random_start=torch.full_like(x, -0.5)
    )
    torch.testing.assert_close(start, torch.full_like(x, 0.45))


def test_an_image_does_not_depend_on_its_batch(small_net, images):
    labels = torch.arange(len(images))

    def attack(chosen):
        with frozen_eval(small_net):
            return pgd_linf(
                images[chosen], lambda x: cross_entropy(small_net(x), labels[chosen]), eps=4 * STEP, step_size=STEP,
                steps=4, random_start=False,
            )  # fmt: skip

    whole = attack(slice(None))
    alone = torch.cat([attack(slice(i, i + 1)) for i in range(len(images))])
    assert (whole == alone).float().mean() > 0.999


def test_the_loss_rises(small_net, images):
    with frozen_eval(small_net):
        adversarial = pgd_linf(
            images, lambda x: uniform_cross_entropy(small_net(x)), eps=4 * STEP, step_size=STEP, steps=8
        )
        assert (uniform_cross_entropy(small_net(adversarial)) > uniform_cross_entropy(small_net(images))).all()


def test_works_where_gradients_are_switched_off(images):
    weight = torch.ones(3, 32, 32)
    expected = pgd_linf(images, linear(weight), eps=STEP, step_size=STEP, steps=2, random_start=False)
    with torch.no_grad():
        assert torch.equal(
            pgd_linf(images, linear(weight), eps=STEP, step_size=STEP, steps=2, random_start=False), expected
        )
    with torch.inference_mode():
        inside = pgd_linf(images.clone(), linear(weight), eps=STEP, step_size=STEP, steps=2, random_start=False)
    assert np.array_equal(inside.numpy(), expected.numpy())


def test_a_loss_that_is_not_one_value_per_image_is_refused(images):
    with pytest.raises(ValueError, match=r"\(6,\); got \(\)"):
        pgd_linf(images, lambda x: x.sum(), eps=STEP, step_size=STEP, steps=1)


@pytest.mark.parametrize("wrong", [{"eps": -STEP}, {"step_size": -1.0}, {"steps": -1}])
def test_negative_settings_are_refused(images, wrong):
    with pytest.raises(ValueError, match="must not be negative"):
        pgd_linf(images, linear(torch.ones(3, 32, 32)), **{"eps": STEP, "step_size": STEP, "steps": 1, **wrong})


def test_a_fraction_of_a_step_is_refused_where_perturbations_are_rounded(images):
    with pytest.raises(ValueError, match="whole 1/255 steps"):
        pgd_linf(images, linear(torch.ones(3, 32, 32)), eps=1.6 * STEP, step_size=STEP, steps=1, rounding="nearest")


@pytest.mark.slow
def test_classifier_attack_equals_the_authors(golden_net, golden_images, reference, pixel_agreement):
    labels = torch.from_numpy(reference["id_labels"])
    x = golden_images["id"]
    with frozen_eval(golden_net):
        adversarial = pgd_linf(
            x, lambda z: cross_entropy(golden_net(z), labels), eps=STEP, step_size=STEP, steps=10, rounding="truncate"
        )
    same = ((adversarial - x) * 255).round().numpy() == reference["id_classifier_eps1_delta255"]
    assert same.mean() >= pixel_agreement


def test_training_attack_on_outliers_equals_the_authors(golden_net, golden_images, reference, pixel_agreement):
    x = golden_images["ood"]
    with frozen_eval(golden_net):
        adversarial = pgd_linf(
            x, lambda z: uniform_cross_entropy(golden_net(z)), eps=STEP, step_size=STEP, steps=2, rounding="truncate"
        )
    same = ((adversarial - x) * 255).round().numpy() == reference["ood_trainstep_eps1_delta255"]
    assert same.mean() >= pixel_agreement
