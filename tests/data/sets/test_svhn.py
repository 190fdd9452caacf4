"""SVHN: the selected images, and each error names the file."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from scipy.io import savemat

from aloe_lightning.data import SVHN
from aloe_lightning.data.catalogue import cards
from aloe_lightning.errors import UserError
from data.fakes import make_svhn, noise


def hwc(images):
    return images.permute(0, 2, 3, 1).numpy()


def load(root, **settings):
    return SVHN(root=str(root), **{"verify": False} | settings).load()


def message_of(root, **settings):
    with pytest.raises(UserError) as error:
        load(root, **settings)
    return str(error.value)


def published(monkeypatch, **facts):
    """Let the card state other facts."""
    monkeypatch.setitem(cards(), "svhn", replace(cards()["svhn"], **facts))


def svhn_file(root):
    (root / "svhn").mkdir(parents=True, exist_ok=True)
    return root / "svhn" / "test_32x32.mat"


def test_svhn_takes_the_first_thousand_of_each_class_in_the_order_of_the_file(tmp_path):
    labels = np.full(1203, 3, dtype=np.uint8)
    labels[::300] = 10  # 0, 300, 600, 900 and 1200 are zeros, which the file calls 10
    images = np.zeros((len(labels), 32, 32, 3), dtype=np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.arange(len(labels)) // 256, np.arange(len(labels)) % 256
    savemat(svhn_file(tmp_path), {"X": images.transpose(1, 2, 3, 0), "y": labels[:, None]})
    loaded = load(tmp_path)
    threes = [index for index in range(1203) if index % 300][:1000]
    expected = sorted([*threes, 0, 300, 600, 900, 1200])
    assert (loaded.images[:, 0, 0, 0].int() * 256 + loaded.images[:, 1, 0, 0]).tolist() == expected
    assert loaded.labels.tolist() == [3 if index % 300 else 0 for index in expected]


def test_svhn_pixels_are_the_files(tmp_path):
    make_svhn(svhn_file(tmp_path), labels=(1, 2, 10, 5), seed=4)
    loaded = load(tmp_path)
    np.testing.assert_array_equal(hwc(loaded.images), noise(4, 4))
    assert loaded.labels.tolist() == [1, 2, 0, 5]


def test_svhn_of_another_sum_is_told_with_both_sums(tmp_path):
    make_svhn(svhn_file(tmp_path))
    message = message_of(tmp_path, verify=True)
    assert hashlib.md5(svhn_file(tmp_path).read_bytes()).hexdigest() in message
    assert "eb5a983be6a315427106f1b164d9cef3" in message


def test_svhn_of_another_number_of_images_is_told_if_verified(tmp_path, monkeypatch):
    make_svhn(svhn_file(tmp_path))
    md5 = hashlib.md5(svhn_file(tmp_path).read_bytes()).hexdigest()
    published(monkeypatch, sums={"test": {"svhn/test_32x32.mat": md5}})
    assert "4 images where the official set has 10,000" in message_of(tmp_path, verify=True)
    published(monkeypatch, images={"test": 4})
    np.testing.assert_array_equal(hwc(load(tmp_path, verify=True).images), noise(4, 400))


@pytest.mark.parametrize("kept", [0, 100, 0.5])
def test_a_truncated_svhn_is_named(tmp_path, kept):
    file = svhn_file(tmp_path)
    make_svhn(file)
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    assert message_of(tmp_path).startswith(f"cannot read {file}: truncated or not SVHN's .mat")


@pytest.mark.parametrize(
    "content",
    [
        {"X": np.zeros((32, 32, 3, 4), np.float32), "y": np.ones((4, 1), np.uint8)},
        {"X": np.zeros((32, 32, 3, 4), np.uint8), "y": np.ones((5, 1), np.uint8)},
        {"X": np.zeros((28, 28, 1, 4), np.uint8), "y": np.ones((4, 1), np.uint8)},
        {"X": np.zeros((4, 3072), np.uint8), "y": np.ones((4, 1), np.uint8)},
        {"X": np.zeros((32, 32, 3, 4), np.uint8)},
        {"y": np.ones((4, 1), np.uint8)},
    ],
)
def test_a_mat_of_other_content_is_refused_by_name(tmp_path, content):
    savemat(svhn_file(tmp_path), content)
    message = message_of(tmp_path)
    assert message.startswith(f"cannot read {svhn_file(tmp_path)}: truncated or not SVHN's .mat")
