import subprocess
import sys

import pytest
import torch

from aloe_lightning.attacks import frozen_eval, gradient_sign
from aloe_lightning.data import ImageSet
from aloe_lightning.detectors import (
    MSP,
    ODIN,
    Energy,
    FitData,
    ForwardPass,
    Mahalanobis,
    MaxLogit,
    PytorchOOD,
    max_softmax,
)
from aloe_lightning.detectors.odin import ETAS, TEMPERATURES, random_noise
from aloe_lightning.errors import UserError
from aloe_lightning.metrics import auroc, fpr_at_tpr


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
    expected = torch.from_numpy(reference[f"{side}_{images}_{detector.title.lower()}"]).double()
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


def confidence(logits):
    return logits.log_softmax(1).amax(1)


@pytest.mark.parametrize("first", [0, 1, 2, 3, 4])
def test_all_detectors_of_logits_share_one_pass_in_any_order(small_net, images, first):
    detectors = (ODIN(), MSP(), Energy(), ODIN(temperature=10, eta=0.002), MaxLogit())
    detectors = detectors[first:] + detectors[:first]
    expected = [detector.fit(small_net)(images) for detector in detectors]
    passes = []
    small_net.register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    with torch.no_grad(), frozen_eval(small_net):
        batch = ForwardPass(small_net, images, needs_input_gradient=True)
        assert not passes
        for detector, scores in zip(detectors, expected, strict=True):
            torch.testing.assert_close(detector.fit(small_net).score(batch), scores)
    assert sorted(passes) == [False, False, True]  # two are of the ODINs' images after their steps


@pytest.mark.parametrize("detector", [MSP(), Energy(), MaxLogit(), ODIN(eta=0.0)])
def test_no_graph_is_kept_unless_a_gradient_is_needed(small_net, images, detector):
    """Neither if gradients are off nor, because of the parameters, if they are on."""
    small_net.eval()
    score = detector.fit(small_net)
    assert not score(images).requires_grad
    assert not ODIN().fit(small_net)(images).requires_grad
    passes = []
    small_net.register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    with torch.no_grad():
        score(images)
    assert passes == [False]


@pytest.mark.parametrize("grad_mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("announced", [True, False])
def test_every_gradient_of_a_forward_pass_is_that_of_its_own(small_net, images, grad_mode, announced):
    small_net.eval()
    expected = gradient_sign(images, lambda x: confidence(small_net(x)))
    other = gradient_sign(images, lambda x: -small_net(x)[:, 3])
    with grad_mode(), frozen_eval(small_net):
        batch = ForwardPass(small_net, images.clone(), needs_input_gradient=announced)
        assert torch.equal(batch.gradient_sign(confidence), expected)
        assert torch.equal(batch.gradient_sign(lambda logits: -logits[:, 3]), other)
        torch.testing.assert_close(batch.logits, small_net(images), rtol=1e-4, atol=1e-5)
        assert not batch.logits.requires_grad


# --- of logits ---


def test_energy_is_the_logarithm_of_the_sum_of_exponentials(small_net, images):
    with torch.no_grad():
        logits = small_net(images).double()
        for temperature in (1.0, 7.0):
            expected = temperature * torch.log(torch.exp(logits / temperature).sum(1))
            torch.testing.assert_close(Energy(temperature=temperature).fit(small_net)(images), expected)


def test_max_logit_is_the_largest(small_net, images):
    with torch.no_grad():
        expected = [max(row) for row in small_net(images).double().tolist()]
        assert MaxLogit().fit(small_net)(images).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("detector", [Energy(), MaxLogit()])
def test_scores_of_logits_are_higher_for_more_in_distribution(golden_net, golden_images, detector):
    score = detector.fit(golden_net)
    with torch.no_grad():
        assert score(golden_images["id"]).mean() > score(golden_images["ood"]).mean()


# --- ODIN chosen on noise ---


def test_noise_is_half_gaussian_and_half_uniform():
    noise = random_noise(400, seed=0)
    assert noise.shape == (400, 3, 32, 32)
    assert (noise.min(), noise.max()) == (0, 1)
    gaussian, uniform = noise[:200], noise[200:]
    assert (gaussian == 0).float().mean() == pytest.approx(0.3085, abs=0.005)  # P(N(0.5, 1) < 0)
    assert uniform.mean() == pytest.approx(0.5, abs=0.003)
    assert uniform.var() == pytest.approx(1 / 12, abs=0.002)
    assert torch.equal(noise, random_noise(400, seed=0))
    assert not torch.equal(noise, random_noise(400, seed=1))


def test_odin_chooses_the_pair_that_a_slow_search_finds(small_net):
    inliers = torch.randint(0, 256, (16, 3, 32, 32), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    data = FitData(inliers=lambda: ImageSet(inliers, torch.zeros(16, dtype=torch.int64)), num_classes=10)
    fitted = ODIN(temperature=None, eta=None, noise=12).fit(small_net, data)
    drawn, noise = data.sample(data.inliers(), 12, "odin"), random_noise(12, data.seed)
    quality = {}
    with torch.no_grad():
        for temperature in TEMPERATURES:
            for eta in ETAS:
                score = ODIN(temperature=temperature, eta=eta).fit(small_net)
                scores = score(drawn), score(noise)
                quality[temperature, eta] = fpr_at_tpr(*scores), -auroc(*scores)
    assert quality[fitted.settings["temperature"], fitted.settings["eta"]] == min(quality.values())


def test_half_a_choice_keeps_the_other_half(small_net):
    inliers = ImageSet(torch.randint(0, 256, (30, 3, 32, 32), dtype=torch.uint8), torch.zeros(30, dtype=torch.int64))
    data = FitData(inliers=lambda: inliers, num_classes=10)
    assert ODIN(temperature=100, eta=None, noise=20).fit(small_net, data).settings["temperature"] == 100
    assert ODIN(temperature=None, eta=0.002, noise=20).fit(small_net, data).settings["eta"] == 0.002
    with pytest.raises(ValueError, match="requires training images"):
        ODIN(eta=None).fit(small_net)


def test_a_tuned_odin_never_reads_outliers(small_net):
    """It needs none, so that none have to exist."""

    def outliers():
        raise AssertionError("outliers were read")

    inliers = ImageSet(torch.randint(0, 256, (30, 3, 32, 32), dtype=torch.uint8), torch.zeros(30, dtype=torch.int64))
    tuned = ODIN(temperature=None, eta=None, noise=20)
    assert (tuned.requires_fit, tuned.requires_outliers) == (True, False)
    tuned.fit(small_net, FitData(inliers=lambda: inliers, outliers=outliers, num_classes=10))
    mahalanobis = Mahalanobis(eta=0.0, images=20)
    assert (mahalanobis.requires_fit, mahalanobis.requires_outliers) == (True, True)
    labelled = ImageSet(inliers.images, torch.arange(30) % 10)
    with pytest.raises(AssertionError, match="outliers were read"):
        mahalanobis.fit(small_net, FitData(inliers=lambda: labelled, outliers=outliers, num_classes=10))
    with pytest.raises(UserError, match="requires outliers, and none are given"):
        mahalanobis.fit(small_net, FitData(inliers=lambda: labelled, num_classes=10))


# --- settings ---


@pytest.mark.parametrize(
    ("detector", "wrong"),
    [
        (ODIN, {"temperature": 0}),
        (ODIN, {"eta": -0.001}),
        (ODIN, {"noise": 0}),
        (Energy, {"temperature": -1}),
        (Mahalanobis, {"images": 0}),
        (Mahalanobis, {"eta": float("nan")}),
        (Mahalanobis, {"arithmetic": "float16"}),
        (PytorchOOD, {"attack": "none"}),
        (PytorchOOD, {"detector": ""}),
    ],
)
def test_values_out_of_range_are_named(detector, wrong):
    with pytest.raises(UserError, match=f"{detector.__name__}: {next(iter(wrong))}: "):
        detector(**wrong)


def test_titles_tell_the_tuned_odin_from_the_papers():
    assert (MSP().title, ODIN().title, Mahalanobis().title) == ("MSP", "ODIN", "Mahalanobis")
    assert ODIN(temperature=None).title == ODIN(eta=None).title == "ODIN (tuned)"
    assert PytorchOOD(detector="GEN").title == "GEN"


def test_importing_detectors_imports_little_more_than_torch():
    """Each of these costs seconds or is needed by few: they are imported where they are used."""
    code = "import sys, aloe_lightning.detectors; print(*sys.modules)"
    modules = set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split())
    assert "torch" in modules
    late = {"torchmetrics", "torchvision", "pytorch_lightning", "sklearn", "scipy", "pandas", "pydantic", "matplotlib"}
    assert modules & late == set()
