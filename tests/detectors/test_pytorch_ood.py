"""Detectors of pytorch-ood on our logits: their own scores, turned round, and attacked."""

import pytest
import torch

from aloe_lightning.attacks import PGD, frozen_eval
from aloe_lightning.data import ImageSet
from aloe_lightning.detectors import MSP, Energy, FitData, MaxLogit, PytorchOOD
from aloe_lightning.errors import UserError

library = pytest.importorskip("pytorch_ood.detector", reason="the extra [pytorch-ood] is not installed")


@pytest.mark.parametrize(("name", "ours"), [("EnergyBased", Energy()), ("MaxSoftmax", MSP()), ("MaxLogit", MaxLogit())])
def test_those_that_we_have_too_give_our_scores(small_net, images, name, ours):
    torch.testing.assert_close(PytorchOOD(detector=name).fit(small_net)(images), ours.fit(small_net)(images))


@pytest.mark.parametrize("name", ["GEN", "Entropy"])
def test_scores_are_the_librarys_with_the_other_sign(small_net, images, name):
    expected = -getattr(library, name)(small_net.double())(images.double())
    torch.testing.assert_close(PytorchOOD(detector=name).fit(small_net)(images.double()), expected)


def test_options_reach_the_librarys_detector(small_net, images):
    hot, cold = (PytorchOOD(detector="EnergyBased", options={"t": t}).fit(small_net)(images) for t in (10.0, 1.0))
    torch.testing.assert_close(hot, Energy(temperature=10).fit(small_net)(images))
    assert not torch.allclose(hot, cold)


@pytest.mark.parametrize(("membership", "sign"), [("id", -1), ("ood", 1)])
def test_it_is_attacked_through_its_own_score(small_net, images, membership, sign):
    fitted = PytorchOOD(detector="GEN").fit(small_net)
    attack = PGD(epsilon=4, steps=10)
    with torch.no_grad():
        before = fitted(images)
    with frozen_eval(small_net):
        attacked = attack(images, fitted.loss(membership))
    with torch.no_grad():
        assert ((fitted(attacked) - before) * sign > 0).all()
    assert fitted.attack_key is None
    assert PytorchOOD(attack="softmax").fit(small_net).attack_key == MSP().fit(small_net).attack_key


def test_one_that_learns_is_fitted_on_training_images(small_net):
    images = torch.randint(0, 256, (40, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    data = FitData(inliers=lambda: ImageSet(images, torch.arange(40) % 10), num_classes=10, batch_size=7)
    detector = PytorchOOD(detector="KLMatching")
    assert detector.requires_fit
    assert not PytorchOOD(detector="GEN").requires_fit
    logits = small_net(images.float().div(255)).detach().double()
    reference = library.KLMatching(None).fit_logits(logits, torch.arange(40) % 10)
    with torch.no_grad():
        scores = detector.fit(small_net, data)(images.float().div(255))
    torch.testing.assert_close(scores, -reference.predict_logits(logits), atol=1e-6, rtol=1e-5)
    with pytest.raises(ValueError, match="requires training images"):
        detector.fit(small_net)


@pytest.mark.parametrize("name", ["ViM", "Nonsense", "info"])
def test_one_that_wants_more_than_logits_is_refused_with_a_list(small_net, name):
    with pytest.raises(UserError, match=f"no detector '{name}' on logits alone; it has .*EnergyBased.*GEN"):
        PytorchOOD(detector=name).fit(small_net)


def test_wrong_options_are_named(small_net):
    with pytest.raises(UserError, match=r"options of pytorch-ood's detector GEN: .*temperature"):
        PytorchOOD(options={"temperature": 3}).fit(small_net)


def test_without_the_library_the_extra_is_named(small_net, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pytorch_ood", None)
    with pytest.raises(UserError, match=r"pip install 'aloe-lightning\[pytorch-ood\]'"):
        PytorchOOD().fit(small_net)
