"""The rejection class: the classifier next to it, and the detector that reads it."""

import math

import pytest
import torch

from aloe_lightning.attacks import PGD, frozen_eval
from aloe_lightning.data import ImageSet
from aloe_lightning.detectors import KNN, MSP, FitData, MahalanobisLast, ReAct, Rejection, ViM
from aloe_lightning.errors import UserError
from aloe_lightning.nets import RejectionNet, SmallNet


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return RejectionNet(SmallNet(5, width=8), 4).eval()


def test_the_classifier_has_the_logits_of_the_classes_and_the_features_of_its_net(net, images):
    with torch.no_grad():
        assert torch.equal(net(images), net.net(images)[:, :4])
        assert all(map(torch.equal, net.features(images), net.net.features(images)))
        logits = net.net(images)[:, :4].double().tolist()
    by_hand = [max(math.exp(v) for v in row) / sum(math.exp(v) for v in row) for row in logits]
    assert MSP().fit(net)(images).tolist() == pytest.approx(by_hand, rel=1e-6)


def test_the_score_is_the_log_odds_against_the_rejection_class(net, images):
    with torch.no_grad():
        p = net.net(images).double().softmax(1)[:, 4]
    scores = Rejection().fit(net)(images)
    torch.testing.assert_close(scores, ((1 - p) / p).log(), rtol=1e-5, atol=1e-6)
    assert scores.argsort().tolist() == (-p).argsort().tolist()  # the order of the authors' score


def test_attacks_move_the_score_towards_the_other_side(net, images):
    fitted = Rejection().fit(net)
    with frozen_eval(net):
        for membership, sign in (("ood", 1), ("id", -1)):
            attacked = PGD(epsilon=3, steps=4, random_start=False)(images, fitted.loss(membership))
            assert (sign * (fitted(attacked) - fitted(images)) > 0).all()


@pytest.mark.parametrize("detector", [KNN(k=2), ReAct(), ViM(dimension=8), MahalanobisLast()])
def test_detectors_of_features_read_the_classes_alone(net, detector, images):
    plain = SmallNet(4, width=8).eval()
    state = net.net.state_dict()
    plain.load_state_dict({name: t[:4] if name.startswith("fc.") else t for name, t in state.items()})
    training = ImageSet(torch.randint(256, (40, 3, 32, 32), dtype=torch.uint8), torch.arange(40) % 4)
    data = FitData(inliers=lambda: training, outliers=lambda: training, num_classes=4)
    scores = detector.fit(net, data)(images)
    torch.testing.assert_close(scores, detector.fit(plain, data)(images), rtol=1e-6, atol=1e-9)
    assert scores.unique().numel() > 1


def test_nets_without_a_rejection_class_are_refused(net, images):
    with pytest.raises(UserError, match="objective=ntom or atom"):
        Rejection().fit(net.net)
    with pytest.raises(UserError, match=r"5 \+ 1; SmallNet has 5"):
        RejectionNet(net.net, 5)(images)
