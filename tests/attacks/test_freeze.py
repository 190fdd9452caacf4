import pytest
import torch

from aloe_lightning.attacks import frozen_eval


def snapshot(net):
    return (
        [(m.training, getattr(m, "track_running_stats", None)) for m in net.modules()],
        [p.requires_grad for p in net.parameters()],
        {name: tensor.clone() for name, tensor in net.state_dict().items()},
    )


def assert_same(before, after):
    assert before[:2] == after[:2]
    for name, tensor in before[2].items():
        assert torch.equal(tensor, after[2][name]), name


@pytest.mark.parametrize("batchnorm", ["train", "eval"])
def test_everything_is_restored_exactly_even_after_an_error(small_net, images, batchnorm):
    small_net.train()
    small_net.stage1.bn1.eval()
    small_net.fc.weight.requires_grad_(False)
    before = snapshot(small_net)

    def fail_inside():
        with frozen_eval(small_net, batchnorm):
            small_net(images)
            assert not any(p.requires_grad for p in small_net.parameters())
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        fail_inside()
    assert_same(before, snapshot(small_net))


def test_eval_mode_normalises_by_running_statistics(small_net, images):
    with torch.no_grad():
        expected = small_net(images)
        small_net.train()
        with frozen_eval(small_net, "eval"):
            torch.testing.assert_close(small_net(images), expected)


def test_train_mode_normalises_by_the_batch(small_net, images):
    small_net.train()
    with torch.no_grad(), frozen_eval(small_net, "train"):
        first_input = small_net.conv1(small_net.normalize(images))
        normalised = small_net.stage1.bn1(first_input)
    means = normalised.mean((0, 2, 3))
    torch.testing.assert_close(means, torch.zeros_like(means), atol=1e-5, rtol=0)
    with torch.no_grad():
        expected = small_net(images)  # a training pass of its own: the same statistics
    small_net.train()
    with torch.no_grad(), frozen_eval(small_net, "train"):
        torch.testing.assert_close(small_net(images), expected)
