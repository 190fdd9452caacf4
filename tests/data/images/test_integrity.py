"""Files are refused for the right reason, and no pickle runs code."""

import hashlib
import pickle

import numpy as np
import pytest

from aloe_lightning.data.images.integrity import read_npy, read_pickle, verify_md5
from aloe_lightning.errors import UserError
from data.fakes import make_npy, noise, write_pickle


def test_a_file_with_its_sum_passes_and_another_is_named_with_both_sums(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"aloe")
    assert verify_md5(file, hashlib.md5(b"aloe").hexdigest()) is None
    with pytest.raises(UserError, match=rf"{file} is not the official file: MD5 \w{{32}}, expected 0{{32}}"):
        verify_md5(file, "0" * 32)


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return type(self.path).touch, (self.path,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, protocol):
    harmful = pickle.dumps({b"data": Harmful(tmp_path / "harm"), b"labels": []}, protocol=protocol)
    (tmp_path / "batch").write_bytes(harmful)
    with pytest.raises(UserError, match=f"cannot read {tmp_path / 'batch'}: truncated or not a CIFAR batch"):
        read_pickle(tmp_path / "batch")
    assert not (tmp_path / "harm").exists()
    pickle.loads(harmful)
    assert (tmp_path / "harm").exists(), "the pickle of this test is harmless: it shows nothing"


@pytest.mark.parametrize("code", [b"cbuiltins\neval\n(V1+1\ntR.", b"cnumpy\nload\n(Vx\ntR.", b"cos\nsystem\n(V:\ntR."])
def test_functions_are_refused_by_name(tmp_path, code):
    (tmp_path / "batch").write_bytes(code)
    module, name = code[1:].split(b"\n")[:2]
    with pytest.raises(UserError, match=f"it would load {module.decode()}.{name.decode()}"):
        read_pickle(tmp_path / "batch")


def test_a_pickle_of_python_2_is_read(tmp_path):
    write_pickle(tmp_path / "batch", {b"data": noise(2, 1), b"labels": [1, 2], b"batch_label": b"testing batch 1 of 1"})
    content = read_pickle(tmp_path / "batch")
    np.testing.assert_array_equal(content.pop("data"), noise(2, 1))
    assert content == {"labels": [1, 2], "batch_label": b"testing batch 1 of 1"}


def test_every_cut_of_a_pickle_is_answered_in_words(tmp_path):
    path = tmp_path / "batch"
    write_pickle(path, {b"data": np.arange(6, dtype=np.uint8).reshape(2, 3), b"labels": [1, 2]})
    content = path.read_bytes()
    for kept in range(len(content)):
        path.write_bytes(content[:kept])
        with pytest.raises(UserError, match=f"cannot read {path}"):
            read_pickle(path)


@pytest.mark.parametrize("garbage", [b"\x80\x02garbage", b"hello\n", b"\xff" * 50, b"PK\x03\x04", b"\x80\x63."])
def test_garbage_is_answered_in_words(tmp_path, garbage):
    (tmp_path / "batch").write_bytes(garbage)
    with pytest.raises(UserError, match=f"cannot read {tmp_path / 'batch'}"):
        read_pickle(tmp_path / "batch")


def test_an_array_of_images_is_mapped(tmp_path):
    make_npy(tmp_path / "o.npy", count=5, seed=9)
    np.testing.assert_array_equal(read_npy(tmp_path / "o.npy"), noise(5, 9))


@pytest.mark.parametrize("kept", [0, 5, 60, 128, 5000, -1])
def test_a_truncated_array_is_told(tmp_path, kept):
    path = tmp_path / "o.npy"
    make_npy(path, count=5)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=f"cannot read {path}: truncated or not an .npy array"):
        read_npy(path)


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.zeros((4, 32, 32, 3), np.float32), r"holds float32 of shape \(4, 32, 32, 3\)"),
        (np.zeros((4, 3, 32, 32), np.uint8), r"holds uint8 of shape \(4, 3, 32, 32\)"),
        (np.zeros((4, 3072), np.uint8), r"holds uint8 of shape \(4, 3072\)"),
        (np.zeros((0, 32, 32, 3), np.uint8), r"\(0, 32, 32, 3\)"),
    ],
)
def test_an_array_of_another_type_or_shape_is_told_with_both(tmp_path, array, told):
    np.save(tmp_path / "o.npy", array)
    with pytest.raises(UserError, match=told):
        read_npy(tmp_path / "o.npy")


def test_an_array_of_objects_is_not_unpickled(tmp_path):
    np.save(tmp_path / "o.npy", np.array([Harmful(tmp_path / "harm")], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=r"o\.npy"):
        read_npy(tmp_path / "o.npy")
    assert not (tmp_path / "harm").exists()


def test_an_archive_of_arrays_is_refused_by_name(tmp_path):
    with (tmp_path / "o.npy").open("wb") as stream:
        np.savez(stream, images=noise(2, 1))
    with pytest.raises(UserError, match=r"o\.npy"):
        read_npy(tmp_path / "o.npy")


def test_a_missing_array_is_told(tmp_path):
    with pytest.raises(UserError, match=f"no images at {tmp_path / 'o.npy'}"):
        read_npy(tmp_path / "o.npy")
