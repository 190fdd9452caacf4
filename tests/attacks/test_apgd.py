import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aloe_lightning.attacks import Ball, apgd, best_pgd, frozen_eval, log_odds, square
from aloe_lightning.attacks.apgd import checkpoints

NORMS = ("linf", "l2")


def wavy(weight):
    """A loss with many local maxima in the ball."""
    return lambda x: (torch.sin(9 * x * weight) + x * weight).flatten(1).sum(1)


def draws(seed):
    return torch.Generator().manual_seed(seed)


def per_image(count, seed=0):
    return [draws(1000 * seed + i) for i in range(count)]


METHODS = {
    "apgd": lambda x, loss, ball, start, seed: apgd(x, loss, ball=ball, steps=7, start=start),
    "pgd": lambda x, loss, ball, start, seed: best_pgd(
        x, loss, ball=ball, step_size=ball.eps / 2, steps=7, start=start
    ),
    "square": lambda x, loss, ball, start, seed: square(
        x, loss, ball=ball, queries=12, generators=per_image(len(x), seed), start=start
    ),
}


@settings(max_examples=40, deadline=None)
@given(
    method=st.sampled_from(sorted(METHODS)),
    norm=st.sampled_from(NORMS),
    eps=st.floats(0, 2),
    seed=st.integers(0, 1000),
    from_noise=st.booleans(),
)
def test_best_iterate_is_in_the_ball_and_not_below_the_start(method, norm, eps, seed, from_noise):
    x = torch.rand(3, 3, 6, 5, generator=draws(seed))
    x[0] = 0
    loss = wavy(torch.randn(3, 6, 5, generator=draws(seed + 1)))
    ball = Ball(norm, eps)
    noise = torch.rand(x.shape, generator=draws(seed + 2)) * 2 - 1
    start = ball.start(x, noise) if from_noise else x
    ascent = METHODS[method](x, loss, ball, start, seed)
    change = (ascent.images - x).flatten(1)
    size = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
    assert (size <= eps * (1 + 1e-5) + 1e-6).all()
    assert ascent.images.min() >= 0
    assert ascent.images.max() <= 1
    torch.testing.assert_close(ascent.start_loss, loss(start))
    torch.testing.assert_close(ascent.loss, loss(ascent.images))
    assert (ascent.loss >= ascent.start_loss).all()


@pytest.mark.parametrize("method", ["apgd", "pgd"])
def test_reaches_the_closed_form_optimum_of_a_linear_loss(method):
    x = 0.3 + 0.4 * torch.rand(4, 3, 8, 8, generator=draws(0))
    weight = torch.randn(3, 8, 8, generator=draws(1))
    linear = lambda z: (z * weight).flatten(1).sum(1)  # noqa: E731
    for norm, eps, optimum in (
        ("linf", 0.1, x + 0.1 * weight.sign()),
        ("l2", 0.25, x + 0.25 * weight / weight.norm()),
    ):
        found = METHODS[method](x, linear, Ball(norm, eps), None, 0)
        torch.testing.assert_close(found.images, optimum, atol=1e-5, rtol=0)


def test_a_random_search_comes_near_the_optimum_of_a_linear_loss():
    x = 0.3 + 0.4 * torch.rand(2, 3, 6, 6, generator=draws(0))
    weight = torch.ones(3, 6, 6)
    linear = lambda z: (z * weight).flatten(1).sum(1)  # noqa: E731
    # The cosine of a random direction to the gradient is about 0.1.
    for norm, eps, gain, share in (("linf", 0.1, 0.1 * 108, 0.7), ("l2", 0.5, 0.5 * 108**0.5, 0.3)):
        found = square(x, linear, ball=Ball(norm, eps), queries=500, generators=per_image(2))
        assert (found.loss - linear(x) > share * gain).all()


def test_the_checkpoints_are_those_of_the_paper():
    assert checkpoints(100) == [0, 22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(20) == [0, 5, 9, 12, 14, 16, 18, 19, 20]


def slow_apgd(x0, value_and_gradient, norm, eps, steps, start):
    """Algorithm 1 of arXiv:2003.01690 for one image, in float64 with NumPy, as its text states it."""
    p = [0, 0.22]
    while p[-1] + max(p[-1] - p[-2] - 0.03, 0.06) <= 1 + 1e-12:
        p.append(p[-1] + max(p[-1] - p[-2] - 0.03, 0.06))
    w = [math.ceil(round(share * steps, 9)) for share in p]

    def project(z):
        if norm == "linf":
            return np.clip(np.clip(z, x0 - eps, x0 + eps), 0, 1)
        d = z - x0
        length = np.sqrt((d**2).sum())
        return np.clip(x0 + d * min(1, eps / length) if length else x0, 0, 1)

    def move(x, eta):
        g = value_and_gradient(x)[1]
        return project(x + eta * (np.sign(g) if norm == "linf" else g / max(np.sqrt((g**2).sum()), 1e-12)))

    f = lambda x: value_and_gradient(x)[0]  # noqa: E731
    iterates, eta, alpha, rho = [start, move(start, 2 * eps)], 2 * eps, 0.75, 0.75
    x_max = max(iterates, key=f)
    rose = [f(iterates[1]) > f(iterates[0])]
    eta_at, best_at = {0: eta}, {0: f(start)}
    for k in range(1, steps + 1):
        # Iterate k is known. At a checkpoint, first compare with the last one.
        if k in w[1:] and k < steps:
            last = w[w.index(k) - 1]
            condition_1 = sum(rose[last:k]) < rho * (k - last)
            condition_2 = eta_at[last] == eta and best_at[last] == f(x_max)
            eta_at[k], best_at[k] = eta, f(x_max)
            if condition_1 or condition_2:
                eta = eta / 2
                iterates[k] = x_max
            eta_at[k] = eta
        if k == steps:
            return x_max
        z = move(iterates[k], eta)
        new = project(iterates[k] + alpha * (z - iterates[k]) + (1 - alpha) * (iterates[k] - iterates[k - 1]))
        rose.append(f(new) > f(iterates[k]))
        iterates.append(new)
        if f(new) > f(x_max):
            x_max = new
    raise AssertionError


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("steps", [1, 2, 20, 60])
def test_equals_a_slow_implementation_of_the_paper_image_by_image(norm, steps):
    x = torch.rand(5, 3, 4, 4, generator=draws(0), dtype=torch.float64)
    weight = torch.randn(3, 4, 4, generator=draws(1), dtype=torch.float64)
    ball = Ball(norm, 0.2)
    start = ball.start(x, torch.rand(x.shape, generator=draws(2), dtype=torch.float64) * 2 - 1)
    found = apgd(x, wavy(weight), ball=ball, steps=steps, start=start)
    v = weight.numpy()

    def value_and_gradient(z):
        return (np.sin(9 * z * v) + z * v).sum(), 9 * v * np.cos(9 * z * v) + v

    for i in range(len(x)):
        expected = slow_apgd(x[i].numpy(), value_and_gradient, norm, 0.2, steps, start[i].numpy())
        np.testing.assert_allclose(found.images[i].numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("method", sorted(METHODS))
def test_an_image_does_not_depend_on_its_batch_and_a_seed_replays(method, norm, small_net, images):
    ball = Ball(norm, 4 / 255 if norm == "linf" else 0.5)

    def attack(chosen):
        with frozen_eval(small_net):
            x, loss = images[chosen], lambda z: -log_odds(small_net(z))
            if method != "square":
                return METHODS[method](x, loss, ball, None, 0).images
            return square(x, loss, ball=ball, queries=12, generators=per_image(len(images))[chosen]).images

    whole = attack(slice(None))
    assert torch.equal(whole, attack(slice(None)))
    alone = torch.cat([attack(slice(i, i + 1)) for i in range(len(images))])
    assert ((whole - alone).abs() < 1e-5).float().mean() > 0.999


def test_projection_on_an_l2_ball_is_the_nearest_point():
    """Against a grid of the disc of one image of two pixels, far from the borders of [0, 1]."""
    clean = torch.full((1, 1, 1, 2), 0.5, dtype=torch.float64)
    ball = Ball("l2", 0.2)
    grid = torch.linspace(-0.2, 0.2, 801, dtype=torch.float64)
    disc = torch.cartesian_prod(grid, grid)
    disc = disc[disc.norm(dim=1) <= 0.2] + 0.5
    for point in ([0.9, 0.8], [0.55, 0.52], [0.1, 0.5]):
        p = torch.tensor(point, dtype=torch.float64)
        nearest = disc[(disc - p).norm(dim=1).argmin()]
        torch.testing.assert_close(ball.project(p.view(1, 1, 1, 2), clean).flatten(), nearest, atol=2e-3, rtol=0)


def test_a_tiny_gradient_still_has_a_direction_and_a_zero_gradient_none():
    gradient = torch.zeros(2, 3, 2, 2)
    gradient[0, 0, 0, 0] = 1e-30
    step = Ball("l2", 1).steepest(gradient)
    assert step[0, 0, 0, 0] == pytest.approx(1)
    assert (step[1] == 0).all()


def test_log_odds_is_that_of_the_largest_probability_and_does_not_saturate():
    z = torch.randn(50, 10, generator=draws(0), dtype=torch.float64) * 3
    for temperature in (1.0, 1000.0):
        p = (z / temperature).softmax(1).amax(1)
        torch.testing.assert_close(log_odds(z, temperature), (p / (1 - p)).log())
    sure = torch.tensor([[500.0, 0.0, 0.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(log_odds(sure).sum(), sure)
    assert gradient[0, 0] == 1
    assert log_odds(sure).item() == pytest.approx(500 - math.log(2))


def test_a_loss_that_is_not_one_value_per_image_is_refused():
    with pytest.raises(ValueError, match="one value per image"):
        apgd(torch.rand(2, 3, 4, 4), lambda x: x.sum(), ball=Ball("linf", 0.1), steps=3)
    with pytest.raises(ValueError, match="no gradient"):
        apgd(torch.rand(2, 3, 4, 4), lambda x: torch.ones(2), ball=Ball("linf", 0.1), steps=3)


def test_settings_without_a_meaning_are_refused():
    x, ball, loss = torch.rand(2, 3, 4, 4), Ball("linf", 0.1), lambda x: x.flatten(1).sum(1)
    with pytest.raises(ValueError, match="steps must not be negative"):
        best_pgd(x, loss, ball=ball, step_size=0.1, steps=-1)
    with pytest.raises(ValueError, match="one generator per image: 1 for 2 images"):
        square(x, loss, ball=ball, queries=1, generators=[draws(0)])
    with pytest.raises(ValueError, match=r"got 1 classes, T = 1\.0"):
        log_odds(torch.rand(2, 1))
    with pytest.raises(ValueError, match="got 3 classes, T = 0"):
        log_odds(torch.rand(2, 3), temperature=0)
