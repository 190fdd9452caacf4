import pytest
import torch

from aloe_lightning.detectors import MSP, ODIN, max_softmax


@pytest.mark.parametrize("detector", [MSP(), ODIN()])
@pytest.mark.parametrize(
    ("side", "images"),
    [(side, images) for side in ("id", "ood") for images in ("clean", "conf_eps1", "conf_eps2", "conf_eps4")]
    + [("id", "classifier_eps1")],
)
def test_scores_of_the_authors_images_equal_theirs(golden_net, golden_images, reference, detector, side, images):
    """On the clean images, and on those that their code attacked."""
    x = golden_images[side]
    if images != "clean":
        x = x + torch.from_numpy(reference[f"{side}_{images}_delta255"]).float() / 255
    with torch.no_grad():
        scores = detector.fit(golden_net)(x)
    expected = torch.from_numpy(reference[f"{side}_{images}_{detector.name}"]).double()
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("detector", [MSP(), ODIN()])
def test_higher_means_more_in_distribution(golden_net, golden_images, detector):
    score = detector.fit(golden_net)
    with torch.no_grad():
        assert score(golden_images["id"]).mean() > score(golden_images["ood"]).mean()


def test_odin_without_step_and_temperature_is_msp(small_net, images):
    torch.testing.assert_close(ODIN(temperature=1, eta=0).fit(small_net)(images), MSP().fit(small_net)(images))


def test_odin_steps_towards_confidence(small_net, images):
    with torch.no_grad():
        stepped, unstepped = (ODIN(temperature=10, eta=eta).fit(small_net)(images) for eta in (0.002, 0.0))
    assert (stepped > unstepped).all()


@pytest.mark.parametrize("detector", [MSP(), ODIN(temperature=10, eta=0.0)])
def test_scores_are_differentiable_in_their_images(small_net, images, detector):
    """Against central differences in float64 along a random direction."""
    small_net.double()
    x = images.double().requires_grad_(True)
    score = detector.fit(small_net)
    (gradient,) = torch.autograd.grad(score(x).sum(), x)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    h = 1e-7
    with torch.no_grad():
        slope = (score(x + h * direction).sum() - score(x - h * direction).sum()) / (2 * h)
    assert (gradient * direction).sum().item() == pytest.approx(slope.item(), rel=1e-2)


def test_float64_keeps_apart_what_float32_saturates():
    logits = torch.tensor([[20.0, 0.0], [25.0, 0.0]])
    assert logits.softmax(1).amax(1).unique().numel() == 1
    assert max_softmax(logits).unique().numel() == 2


def test_scoring_leaves_the_net_as_it_was(small_net, images):
    small_net.eval()
    before = {name: tensor.clone() for name, tensor in small_net.state_dict().items()}
    ODIN().fit(small_net)(images)
    assert all(p.requires_grad and p.grad is None for p in small_net.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in small_net.state_dict().items())
