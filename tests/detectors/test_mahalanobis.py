"""Mahalanobis and Algorithm 2 against the authors' outputs, scikit-learn and slow loops."""

import numpy as np
import pytest
import torch
from sklearn.covariance import EmpiricalCovariance

from aloe_lightning.attacks import PGD, frozen_eval, gradient_sign
from aloe_lightning.data import ImageSet
from aloe_lightning.detectors import ODIN, CachedDetector, FitData, Mahalanobis, read_fitted, write_fitted
from aloe_lightning.detectors.gaussians import Gaussians, fit_gaussians
from aloe_lightning.detectors.mahalanobis import ETAS, LayerScores, algorithm_2, regression
from aloe_lightning.errors import UserError

LAYERS = range(4)


def pixels(array):
    return torch.from_numpy(array).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope="module")
def fit_features(golden_net, reference):
    """Features of the 600 images that the authors' Gaussians were fitted on, and their labels."""
    with torch.no_grad():
        parts = [golden_net.features(batch) for batch in pixels(reference["fit_images"]).split(50)]
    return [torch.cat(layer) for layer in zip(*parts, strict=True)], torch.from_numpy(reference["fit_labels"])


def in_parts(features, labels, size=70):
    for start in range(0, len(labels), size):
        yield [layer[start : start + size] for layer in features], labels[start : start + size]


@pytest.fixture(scope="module")
def authors(golden_net, reference):
    """The authors' Gaussians, in their arithmetic."""
    return LayerScores(
        golden_net,
        [
            Gaussians(torch.from_numpy(reference[f"maha_mean_{k}"]), torch.from_numpy(reference[f"maha_precision_{k}"]))
            for k in LAYERS
        ],
    )


# --- against the authors ---


@pytest.mark.slow
def test_means_and_precisions_in_the_authors_arithmetic_are_theirs(fit_features, reference):
    gaussians = fit_gaussians(in_parts(*fit_features), 10, "float32")
    for k, gaussian in enumerate(gaussians):
        np.testing.assert_allclose(gaussian.means, reference[f"maha_mean_{k}"], atol=1e-6)
        expected = reference[f"maha_precision_{k}"].astype(np.float64)
        error = np.linalg.norm(gaussian.precision.numpy() - expected) / np.linalg.norm(expected)
        assert error < 1e-3, f"layer {k}"


@pytest.mark.parametrize("side", ["id", "ood"])
def test_layer_scores_are_the_authors(authors, golden_images, reference, side):
    with torch.no_grad():
        scores = authors.clean(golden_images[side]).numpy()
    np.testing.assert_allclose(scores, reference[f"{side}_maha_layer_scores_eta0.0"], rtol=1e-3)


@pytest.mark.parametrize("side", ["id", "ood"])
def test_layer_scores_after_the_input_step_are_the_authors(authors, golden_images, reference, side):
    directions = authors.directions(golden_images[side])
    with torch.no_grad():
        scores = authors.stepped(golden_images[side], directions, 0.001).numpy()
    expected = reference[f"{side}_maha_layer_scores_eta0.001"]
    # The first layer's precision is nearly singular, so that this holds only in their very arithmetic.
    np.testing.assert_allclose(scores, expected, rtol=1e-3)


@pytest.mark.parametrize("side", ["id", "ood"])
def test_algorithm_2_is_as_strong_as_the_authors(authors, golden_images, reference, side):
    weights, bias = torch.from_numpy(-reference["maha_w"]), -float(reference["maha_b"])  # the authors' are of P(out)
    attack = PGD(epsilon=1, steps=10, rounding="truncate", random_start=False)
    with frozen_eval(authors.net):
        attacked = attack(golden_images[side], algorithm_2(authors, weights, bias, side))
    delta = ((attacked - golden_images[side]) * 255).round().to(torch.int8).numpy()
    assert (delta == reference[f"{side}_maha_eps1_delta255"]).mean() >= 0.8
    with torch.no_grad():
        tensors = {"weights": weights, "bias": torch.tensor(bias, dtype=torch.float64), "eta": torch.tensor(0.0)}
        for k, gaussian in enumerate(authors.gaussians):
            tensors |= {f"mean_{k}": gaussian.means, f"precision_{k}": gaussian.precision}
        ours = Mahalanobis().from_state(authors.net, {}, tensors)(attacked).numpy()
    expected = -(reference[f"{side}_maha_eps1_layer_scores_eta0.0"] @ reference["maha_w"] + reference["maha_b"])
    assert np.corrcoef(ours, expected)[0, 1] > 0.99
    weaker = ours.mean() - expected.mean() if side == "id" else expected.mean() - ours.mean()
    assert weaker < 0.01 * (40 / len(ours)) ** 0.5  # of a mean over that many images


# --- against closed forms ---


def random_features(count=300, size=6, classes=3):
    draws = np.random.default_rng(0)
    mixing = draws.normal(size=(size, size))
    labels = np.arange(count) % classes
    features = draws.normal(size=(count, size)) @ mixing + 50 * draws.normal(size=(classes, size))[labels]
    return torch.from_numpy(features), torch.from_numpy(labels)


def test_means_and_precision_are_scikit_learns():
    features, labels = random_features()
    (gaussian,) = fit_gaussians(in_parts([features], labels, 37), 3)
    means = np.stack([features[labels == label].numpy().mean(0) for label in range(3)])
    np.testing.assert_allclose(gaussian.means, means, rtol=1e-10)
    expected = EmpiricalCovariance(assume_centered=True).fit(features.numpy() - means[labels]).precision_
    np.testing.assert_allclose(gaussian.precision, expected, rtol=1e-7, atol=1e-10)
    assert gaussian.ridge == 0


def test_the_authors_arithmetic_rounds_only_where_the_covariance_is_regular():
    features, labels = random_features()
    (exact,), (rounded,) = (fit_gaussians(in_parts([features.float()], labels), 3, a) for a in ("float64", "float32"))
    assert rounded.means.dtype == rounded.precision.dtype == torch.float32
    np.testing.assert_allclose(rounded.means, exact.means, rtol=1e-4, atol=1e-4)
    assert (rounded.precision - exact.precision).norm() < 1e-3 * exact.precision.norm()


def test_the_score_is_half_the_least_squared_distance():
    features, labels = random_features()
    (gaussian,) = fit_gaussians(in_parts([features], labels), 3)
    for vector, score in zip(features[:20].numpy(), gaussian.score(features[:20]).tolist(), strict=True):
        differences = [vector - mean for mean in gaussian.means.numpy()]
        assert score == pytest.approx(-0.5 * min(a @ gaussian.precision.numpy() @ a for a in differences), rel=1e-9)


def test_the_directions_of_all_layers_come_from_one_pass(small_net, images, monkeypatch):
    small_net.eval()
    draws = torch.Generator().manual_seed(0)
    sizes = [f.shape[1] for f in small_net.features(images)]
    layers = LayerScores(
        small_net,
        [Gaussians(torch.rand(3, c, generator=draws).double(), torch.eye(c, dtype=torch.float64)) for c in sizes],
    )
    expected = [gradient_sign(images, lambda x, k=k: layers.of_layer(x, k)) for k in range(len(sizes))]
    passes, features = [], small_net.features
    monkeypatch.setattr(small_net, "features", lambda x: passes.append(1) or features(x))
    assert torch.equal(layers.directions(images), torch.stack(expected))
    assert len(passes) == 1


def test_a_dead_feature_gets_a_ridge_and_the_fit_says_so():
    features, labels = random_features()
    features[:, 2] = 7.0
    (gaussian,) = fit_gaussians(in_parts([features], labels), 3)
    assert gaussian.ridge > 0
    assert torch.isfinite(gaussian.precision).all()
    assert torch.linalg.eigvalsh(gaussian.precision).min() > 0


def test_a_class_without_samples_is_told():
    features, labels = random_features()
    with pytest.raises(ValueError, match=r"\[3\]"):
        fit_gaussians(in_parts([features], labels), 4)


def test_the_regression_recovers_the_log_odds_of_two_gaussians():
    """For N(mu, I) against N(-mu, I) with equal priors the log-odds are 2 mu'x."""
    draws = np.random.default_rng(0)
    mu, target = np.array([0.3, -0.5, 0.0, 0.8]), np.repeat([1, 0], 20_000)
    scores = draws.normal(size=(40_000, 4)) + np.where(target[:, None] == 1, mu, -mu)
    weights, bias = regression(1000 * scores - 500, target)
    np.testing.assert_allclose(1000 * weights, 2 * mu, atol=0.06)
    assert bias - 500 * weights.sum() == pytest.approx(0, abs=0.06)


# --- as a detector ---


@pytest.fixture
def fit_data(small_net):
    """A net, and images to fit on: bright inliers of ten classes, dark outliers."""
    draws = torch.Generator().manual_seed(0)
    inliers = torch.randint(100, 256, (200, 3, 32, 32), generator=draws, dtype=torch.uint8)
    outliers = torch.randint(0, 100, (120, 3, 32, 32), generator=draws, dtype=torch.uint8)
    data = FitData(
        inliers=lambda: ImageSet(inliers, torch.arange(200) % 10),
        outliers=lambda: ImageSet(outliers),
        num_classes=10,
        batch_size=64,
    )
    return small_net, data, inliers.float() / 255, outliers.float() / 255


def test_the_fitted_detector_tells_inliers_from_outliers_and_is_attacked_by_algorithm_2(fit_data):
    net, data, inliers, outliers = fit_data
    fitted = Mahalanobis(eta=0.001, images=100).fit(net, data)
    with torch.no_grad():
        clean = fitted(inliers), fitted(outliers)
    assert clean[0].min() > clean[1].max(), "higher = more in-distribution"
    assert clean[0].dtype == torch.float64
    assert fitted.attack_key is None, "no other detector has this loss"
    plain = Mahalanobis(eta=0.0, images=100).fit(net, data)
    attack = PGD(epsilon=8, steps=4)
    with torch.no_grad():
        for side, images, sign in (("id", inliers, 1), ("ood", outliers, -1)):
            attacked = attack(images, plain.loss(side))
            assert (sign * (plain(images) - plain(attacked))).mean() > 0


def test_the_step_is_chosen_by_the_least_fpr_of_21(fit_data, monkeypatch):
    net, data, _, _ = fit_data
    assert len(ETAS) == 21
    monkeypatch.setattr("aloe_lightning.detectors.mahalanobis.ETAS", ETAS[::5])  # a regression for each takes long
    fitted = Mahalanobis(images=20).fit(net, data)
    assert fitted.settings["eta"] == 0, "separate without a step: the first of equal steps"


def test_a_fit_is_a_function_of_the_seed(fit_data):
    net, data, inliers, _ = fit_data
    first, again = (Mahalanobis(eta=0.0, images=50).fit(net, data) for _ in range(2))
    with torch.no_grad():
        assert torch.equal(first(inliers), again(inliers))


def test_what_was_learnt_is_kept_and_read_without_pickle(fit_data, tmp_path):
    net, data, inliers, _ = fit_data
    fitted = Mahalanobis(eta=0.001, images=50).fit(net, data)
    write_fitted(tmp_path, "first", fitted)
    again = read_fitted(tmp_path, "first", Mahalanobis(), net)
    assert again.settings == fitted.settings
    with torch.no_grad():
        assert torch.equal(again(inliers), fitted(inliers))
    file = tmp_path / "first.safetensors"
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(UserError, match=f"{tmp_path}/first "):
        read_fitted(tmp_path, "first", Mahalanobis(), net)


@pytest.mark.parametrize("detector", [Mahalanobis(eta=0.001, images=50), ODIN(temperature=None, eta=None, noise=30)])
def test_a_fit_is_made_once_for_a_net(fit_data, tmp_path, detector):
    net, data, inliers, _ = fit_data
    cached = CachedDetector(detector, tmp_path / "fits", "first")
    assert cached.requires_fit
    assert (cached.requires_outliers, cached.title) == (detector.requires_outliers, detector.title)
    first = cached.fit(net, data)
    assert not cached.requires_fit
    assert not cached.requires_outliers
    second = cached.fit(net)  # without data: it is not fitted again
    with torch.no_grad():
        assert torch.equal(second(inliers), first(inliers))
    assert CachedDetector(detector, tmp_path / "fits", "first", refit=True).requires_fit
    assert CachedDetector(detector, tmp_path / "fits", "another").requires_fit


def test_without_data_it_does_not_fit(small_net):
    with pytest.raises(ValueError, match="requires training images and outliers"):
        Mahalanobis().fit(small_net)
