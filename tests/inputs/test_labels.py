"""Labels of every odd kind: whole classes from 0, or one clear line."""

import numpy as np
import pytest
import torch

from aloe_lightning.data import LabelledArrays, TestFolder
from aloe_lightning.errors import UserError
from aloe_lightning.robustness.images import images_of
from data.fakes import make_pictures, noise

LABELS = np.arange(8) % 2


def statistics(labels, folder):
    np.savez(folder / "a.npz", images=noise(8, 1), labels=labels)
    data = LabelledArrays(train=str(folder / "a.npz"), test="none.npz")
    return data.train_set().labels.tolist(), data.num_classes


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.int8, ">i4", np.uint64])
def test_whole_numbers_of_every_type_are_classes(kind, tmp_path):
    assert statistics(LABELS.astype(kind), tmp_path) == (LABELS.tolist(), 2)


REFUSED = {
    "gap": (LABELS * 2, "no images of the classes [1]"),
    "from 1": (LABELS + 1, "no images of the classes [0]"),
    "one class": (LABELS * 0, "a single class"),
    "negative": (LABELS - 1, "labels are in -1..0"),
    "floats": (LABELS.astype(float), "labels are float64"),
    "NaN": (np.where(LABELS, 1, np.nan), "labels are float64"),
    "text": (np.array(["cat", "dog"] * 4), "labels are <U3"),
    "switches": (LABELS == 1, "labels are bool"),
    "one-hot": (np.eye(2, dtype=int)[LABELS], "labels are int64 (8, 2)"),
    "column": (LABELS[:, None], "labels are int64 (8, 1)"),
    "too few": (LABELS[:7], "8 images, but 7 labels"),
    "identifiers": (LABELS * 10**7, "no images of the classes [1, 2, 3, 4, 5]"),
    "huge": (LABELS * 10**12, "labels are in 0..1000000000000"),
    "beyond int64": (LABELS.astype(np.uint64) * np.uint64(2**63 + 1), "labels are in 0..9223372036854775809"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_other_labels_of_training_images_are_refused(kind, tmp_path):
    labels, part = REFUSED[kind]
    with pytest.raises(UserError) as refusal:
        statistics(labels, tmp_path)
    assert part in str(refusal.value)


IMAGES = torch.rand(4, 3, 8, 8)
REFUSED_TENSORS = {
    "floats": (torch.zeros(4), "labels are torch.float32"),
    "negative": (torch.tensor([0, 1, -1, 0]), "a label is -1"),
    "switches": (torch.ones(4, dtype=torch.bool), "labels are torch.bool"),
    "column": (torch.zeros(4, 1, dtype=torch.int64), "labels are torch.int64 (4, 1)"),
    "too few": (torch.zeros(3, dtype=torch.int64), "labels are torch.int64 (3,)"),
}


@pytest.mark.parametrize("kind", REFUSED_TENSORS)
def test_other_labels_of_given_tensors_are_refused(kind):
    labels, part = REFUSED_TENSORS[kind]
    with pytest.raises(UserError) as refusal:
        list(images_of("photos", (IMAGES, labels), None, 2))
    assert part in str(refusal.value)


def test_a_class_without_pictures_keeps_its_number(tmp_path):
    for name in ("ant", "bee", "cat"):
        (tmp_path / name).mkdir()
    for name in ("bee", "cat"):
        make_pictures(tmp_path / name, count=1)
    (tmp_path / "__MACOSX").mkdir()
    images = images_of("photos", tmp_path, 32, 8)
    assert next(iter(images)).labels.tolist() == [1, 2]
    assert TestFolder(test=str(tmp_path)).num_classes == len(images.classes) == 3
