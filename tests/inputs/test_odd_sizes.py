"""Sets of every odd size: the same numbers as in a slow loop, or one clear line."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from aloe_lightning.data import LabelledArrays
from aloe_lightning.data.batches import EpochSampler
from aloe_lightning.errors import UserError
from aloe_lightning.nets import SmallNet
from aloe_lightning.objectives import Original
from aloe_lightning.robustness import evaluate
from data.fakes import noise


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return SmallNet(3, width=4).eval()


def result(net, id_images, ood_images, **options):
    return evaluate(net, id_images, {"far": ood_images}, preset="paper", verbose=False, **options)


@pytest.mark.parametrize("counts", [(1, 1), (1, 5), (5, 1), (3, 4)])
@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_scores_of_few_images_are_those_of_each_alone(net, counts, batch_size):
    sets = [torch.from_numpy(noise(n, n)).permute(0, 3, 1, 2) for n in counts]
    scores = result(net, *sets, batch_size=batch_size, sides=("none",)).scores
    for name, images in zip(("id", "far"), sets, strict=True):
        expected = [net(image[None].float() / 255).softmax(1).max().item() for image in images]
        assert scores["msp", name, "clean"] == pytest.approx(expected, abs=1e-6)


def test_one_image_of_each_side_is_attacked(net):
    images = torch.from_numpy(noise(2, 1)).permute(0, 3, 1, 2)
    scores = result(net, images[:1], images[1:]).scores
    assert scores["msp", "id", "attacked"] < scores["msp", "id", "clean"]
    assert scores["msp", "far", "attacked"] > scores["msp", "far", "clean"]


ONE = torch.zeros(1, 3, 32, 32)
EMPTY = {
    "tensor": ONE[:0],
    "list": [],
    "loader": DataLoader(TensorDataset(ONE[:0])),
    "list with an empty batch": [ONE[:0]],
}


@pytest.mark.parametrize("side", ["id", "far"])
@pytest.mark.parametrize("kind", EMPTY)
def test_no_images_are_refused(net, kind, side):
    sets = (EMPTY[kind], ONE) if side == "id" else (ONE, EMPTY[kind])
    with pytest.raises(UserError, match=side):
        result(net, *sets, sides=("none",))


@pytest.mark.parametrize("size", [0, -1])
def test_a_size_is_positive(net, size):
    with pytest.raises(UserError, match="positive number of pixels"):
        result(net, ONE, ONE, size=size)


@pytest.mark.parametrize(("inliers", "outliers"), [(1, 1), (3, 1), (1, 9), (5, 2), (8, 8)])
def test_fewer_images_than_a_batch_give_an_epoch_with_each_inlier_once(inliers, outliers):
    batches = list(EpochSampler(inliers, outliers, inlier_batch=4, outlier_batch=6, seed=0))
    drawn = torch.cat([batch.inliers for batch in batches])
    used = torch.cat([batch.outliers for batch in batches]).bincount(minlength=outliers)
    assert drawn.sort().values.tolist() == list(range(inliers))
    assert used.max() - used.min() <= 1, "no outlier is used k + 1 times before all are used k times"


@pytest.mark.parametrize("count", [1, 2])
def test_a_training_set_of_one_image_has_one_class(count, tmp_path):
    np.savez(tmp_path / "a.npz", images=noise(count, 1), labels=np.arange(count))
    data = LabelledArrays(train=str(tmp_path / "a.npz"), test="none.npz")
    if count == 1:
        with pytest.raises(UserError, match="a single class"):
            data.statistics  # noqa: B018
    else:
        assert data.num_classes == 2


@pytest.mark.parametrize("width", [1, 4, 7, 8])
def test_a_net_of_any_width_is_trained_and_not_killed(width):
    net = Original(net=SmallNet(3, width=width)).net
    net(torch.rand(2, 3, 32, 32)).sum().backward()
    is_channels_last = net.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert is_channels_last == (width >= 8)
    assert net.conv1.weight.grad.abs().max() > 0
