"""k-NN, ViM, ReAct and Mahalanobis of the last layer, against slow loops over the published equations."""

import numpy as np
import pytest
import torch
from torch import nn

from aloe_lightning.data import ImageSet
from aloe_lightning.detectors import KNN, ODIN, FitData, MahalanobisLast, ReAct, ViM
from aloe_lightning.errors import UserError

WIDTH, CLASSES = 12, 3


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    maps = nn.Conv2d(3, WIDTH, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*maps, nn.Linear(WIDTH, CLASSES))


@pytest.fixture(scope="module")
def training():
    draws = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=draws), torch.arange(40) % CLASSES


@pytest.fixture(scope="module")
def data(training):
    return FitData(inliers=lambda: ImageSet(*training), num_classes=CLASSES, batch_size=7)


@pytest.fixture(scope="module")
def images():
    return torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(2))


def features_of(net, images):
    with torch.no_grad():
        return net[:4](images).double().numpy()


def head_of(net):
    return net[4].weight.detach().double().numpy(), net[4].bias.detach().double().numpy()


def test_knn_is_the_distance_to_the_kth_neighbour_on_the_sphere(net, training, data, images):
    known, queries = features_of(net, training[0].float() / 255), features_of(net, images)
    expected = []
    for query in queries:
        distances = [np.linalg.norm(query / np.linalg.norm(query) - k / np.linalg.norm(k)) for k in known]
        expected.append(-sorted(distances)[3 - 1])
    assert KNN(k=3).fit(net, data)(images).numpy() == pytest.approx(np.array(expected), abs=1e-5)


def test_knn_keeps_a_sample_and_refuses_too_few(net, data):
    assert KNN(k=2, images=10).fit(net, data).tensors["features"].shape == (10, WIDTH)
    with pytest.raises(UserError, match="40 training images for k = 50"):
        KNN().fit(net, data)


def test_vim_is_the_energy_less_the_virtual_logit(net, training, data, images):
    known, queries = features_of(net, training[0].float() / 255), features_of(net, images)
    weight, bias = head_of(net)
    origin = -np.linalg.pinv(weight) @ bias
    values, axes = np.linalg.eig((known - origin).T @ (known - origin))
    residual = axes[:, np.argsort(values)[: WIDTH - WIDTH // 2]]
    norms = [np.linalg.norm(residual.T @ (h - origin)) for h in known]
    alpha = np.mean([max(weight @ h + bias) for h in known]) / np.mean(norms)
    expected = []
    for h in queries:
        logits = weight @ h + bias
        virtual = alpha * np.linalg.norm(residual.T @ (h - origin))
        p_virtual = np.exp(virtual) / (np.exp(logits).sum() + np.exp(virtual))  # the paper's score of OOD
        expected.append(np.log(1 - p_virtual) - np.log(p_virtual))
    fitted = ViM().fit(net, data)
    assert fitted.settings["alpha"] == pytest.approx(alpha, rel=1e-4)
    assert fitted(images).numpy() == pytest.approx(np.array(expected), abs=1e-3)


def test_vim_refuses_a_space_without_residual(net, data):
    with pytest.raises(UserError, match="leaves no residual"):
        ViM(dimension=WIDTH).fit(net, data)
    few = FitData(inliers=lambda: ImageSet(torch.zeros(4, 3, 8, 8, dtype=torch.uint8)), num_classes=CLASSES)
    with pytest.raises(UserError, match="4 training images"):
        ViM().fit(net, few)


def test_react_is_the_energy_of_cut_activations(net, training, data, images):
    known, queries = features_of(net, training[0].float() / 255), features_of(net, images)
    weight, bias = head_of(net)
    ordered = np.sort(known.ravel())
    position = 0.8 * (ordered.size - 1)
    low = int(position)
    threshold = ordered[low] + (position - low) * (ordered[low + 1] - ordered[low])
    expected = [np.log(np.exp(weight @ np.minimum(h, threshold) + bias).sum()) for h in queries]
    fitted = ReAct(percentile=80).fit(net, data)
    assert fitted.settings["threshold"] == pytest.approx(threshold, rel=1e-6)
    assert fitted(images).numpy() == pytest.approx(np.array(expected), abs=1e-5)
    assert (queries > threshold).any(), "nothing was cut: the test would not see it"


def test_mahalanobis_of_the_last_layer_is_the_nearest_class(net, training, data, images):
    known, labels, queries = features_of(net, training[0].float() / 255), training[1].numpy(), features_of(net, images)
    means = [known[labels == c].mean(0) for c in range(CLASSES)]
    centred = np.concatenate([known[labels == c] - means[c] for c in range(CLASSES)])
    precision = np.linalg.inv(centred.T @ centred / len(centred))
    expected = [max(-0.5 * (h - m) @ precision @ (h - m) for m in means) for h in queries]
    assert MahalanobisLast().fit(net, data)(images).numpy() == pytest.approx(np.array(expected), rel=1e-3)


@pytest.mark.parametrize("detector", [KNN(k=3), ViM(), ReAct(), MahalanobisLast()], ids=lambda d: d.title)
def test_the_attack_sees_the_gradient_of_the_score(detector, net, data, images):
    fitted = detector.fit(net, data)
    x = images.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(fitted.loss("ood")(x).sum(), x)
    (opposite,) = torch.autograd.grad(fitted.loss("id")(x).sum(), x)
    assert torch.equal(gradient, -opposite)
    k = int(gradient[0].abs().argmax())
    step = torch.zeros(images[0].numel())
    step[k] = 1e-2
    step = step.view_as(images[0])
    with torch.no_grad():
        difference = fitted(images[:1] + step) - fitted(images[:1] - step)
    assert float(difference) / 2e-2 == pytest.approx(float(gradient[0].flatten()[k]), rel=0.2)


@pytest.mark.parametrize("detector", [KNN(k=3), ViM(), ReAct(), MahalanobisLast()], ids=lambda d: d.title)
def test_a_fit_comes_back_from_its_state(detector, net, data, images):
    fitted = detector.fit(net, data)
    again = detector.from_state(net, fitted.settings, fitted.tensors)
    assert torch.equal(again(images), fitted(images))


def test_odin_is_tuned_on_noise_of_the_images_size(data):
    torch.manual_seed(0)
    fixed = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, CLASSES))
    fitted = ODIN(temperature=None, eta=None, noise=12).fit(fixed, data)
    assert fitted.settings["temperature"] in (1, 10, 100, 1000)
