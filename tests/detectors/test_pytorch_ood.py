"""Detectors of pytorch-ood on our logits: their own scores, turned round, and attacked."""

import pytest
import torch

from aloe_lightning.attacks import ConfidenceAttack
from aloe_lightning.data import ImageSet
from aloe_lightning.detectors import MSP, Energy, FitData, MaxLogit, PytorchOOD
from aloe_lightning.errors import UserError

theirs = pytest.importorskip("pytorch_ood.detector", reason="the extra [pytorch-ood] is not installed")


@pytest.mark.parametrize(("name", "ours"), [("EnergyBased", Energy()), ("MaxSoftmax", MSP()), ("MaxLogit", MaxLogit())])
def test_those_that_we_have_too_give_our_scores(small_net, images, name, ours):
    torch.testing.assert_close(PytorchOOD(detector=name).fit(small_net)(images), ours.fit(small_net)(images))


@pytest.mark.parametrize("name", ["GEN", "Entropy"])
def test_scores_are_the_librarys_with_the_other_sign(small_net, images, name):
    expected = -getattr(theirs, name)(small_net.double())(images.double())
    torch.testing.assert_close(PytorchOOD(detector=name).fit(small_net)(images.double()), expected)


def test_options_reach_the_librarys_detector(small_net, images):
    hot, cold = (PytorchOOD(detector="EnergyBased", options={"t": t}).fit(small_net)(images) for t in (10.0, 1.0))
    torch.testing.assert_close(hot, Energy(temperature=10).fit(small_net)(images))
    assert not torch.allclose(hot, cold)


@pytest.mark.parametrize(("membership", "sign"), [("id", -1), ("ood", 1)])
def test_it_is_attacked_through_its_own_score(small_net, images, membership, sign):
    fitted = PytorchOOD(detector="GEN").fit(small_net)
    attack = ConfidenceAttack(epsilon=4)
    with torch.no_grad():
        before = fitted(images)
    through = attack(small_net, images, membership, loss=fitted.loss)
    with torch.no_grad():
        assert ((fitted(through) - before) * sign > 0).all()
    assert PytorchOOD(attack="softmax").fit(small_net).crafted == MSP().fit(small_net).crafted


def test_one_that_learns_is_fitted_on_training_images(small_net):
    images = torch.randint(0, 256, (40, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    data = FitData(
        inliers=ImageSet(images, torch.arange(40) % 10), outliers=ImageSet(images), num_classes=10, batch_size=7
    )
    detector = PytorchOOD(detector="KLMatching")
    assert detector.learns
    assert not PytorchOOD(detector="GEN").learns
    logits = small_net(images.float().div(255)).detach().double()
    reference = theirs.KLMatching(None).fit_logits(logits, torch.arange(40) % 10)
    with torch.no_grad():
        found = detector.fit(small_net, data)(images.float().div(255))
    torch.testing.assert_close(found, -reference.predict_logits(logits), atol=1e-6, rtol=1e-5)
    with pytest.raises(ValueError, match="learns from training images"):
        detector.fit(small_net)


@pytest.mark.parametrize("name", ["ViM", "Nonsense", "info"])
def test_one_that_wants_more_than_logits_is_refused_with_a_list(small_net, name):
    with pytest.raises(UserError, match=f"no detector '{name}' on logits alone; there are .*EnergyBased.*GEN"):
        PytorchOOD(detector=name).fit(small_net)


def test_wrong_options_are_named(small_net):
    with pytest.raises(UserError, match=r"detector.mine.options: .*temperature"):
        PytorchOOD(options={"temperature": 3}, name="mine").fit(small_net)


def test_without_the_library_the_extra_is_named(small_net, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pytorch_ood", None)
    with pytest.raises(UserError, match=r"pip install 'aloe-lightning\[pytorch-ood\]'"):
        PytorchOOD().fit(small_net)
