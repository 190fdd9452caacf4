"""CIFAR in the official layout: what is read is what was written, and each "no" names the file."""

import hashlib
import pickle
import pickletools

import numpy as np
import pytest
import torch

from aloe_lightning.data import CIFAR10, CIFAR100, CIFAR10Test, CIFAR100Test
from aloe_lightning.data.catalogue import cards
from aloe_lightning.errors import UserError
from data.fakes import CIFAR10_FILES, cifar_rows, make_cifar10, make_cifar100, noise, write_cifar_batch, write_pickle

FOLDER = "cifar-10-batches-py"


def cifar(root, reader=CIFAR10, **settings):
    return reader(root=str(root), **{"verify": False} | settings)


def test_fakes_are_pickled_as_the_official_files_are(tmp_path):
    make_cifar10(tmp_path)
    content = (tmp_path / "cifar-10-batches-py" / "data_batch_1").read_bytes()
    told = [(opcode.name, argument) for opcode, argument, _ in pickletools.genops(content)]
    assert told[0] == ("PROTO", 2)
    names = {argument for name, argument in told if name == "GLOBAL"}
    assert names == {"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"}
    assert ("BINSTRING", "data") in told


def test_cifar10_training_images_are_the_five_files_in_order(tmp_path):
    make_cifar10(tmp_path, per_file=6)
    train = cifar(tmp_path).train_set()
    expected = np.concatenate([noise(6, number) for number in range(1, 6)])
    assert train.images.dtype == torch.uint8
    assert train.labels.dtype == torch.int64
    np.testing.assert_array_equal(train.images.permute(0, 2, 3, 1).numpy(), expected)
    assert train.labels.tolist() == [(number + index) % 10 for number in range(1, 6) for index in range(6)]


def test_cifar10_test_images_are_the_test_batch(tmp_path):
    make_cifar10(tmp_path, per_file=6)
    test = cifar(tmp_path).test_set()
    np.testing.assert_array_equal(test.images.permute(0, 2, 3, 1).numpy(), noise(6, 6))
    assert test.labels.tolist() == [6, 7, 8, 9, 0, 1]


def test_planes_are_red_green_blue_and_rows_run_downwards(tmp_path):
    images = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    images[0, 2, 5] = (10, 20, 30)
    for file in CIFAR10_FILES:
        write_cifar_batch(tmp_path / "cifar-10-batches-py" / file, images, [3])
    (picture,) = cifar(tmp_path).test_set().images
    assert picture[:, 2, 5].tolist() == [10, 20, 30]
    assert int(picture.sum()) == 60


def test_cifar100_has_the_fine_labels(tmp_path):
    make_cifar100(tmp_path, train=12, test=6)
    train, test = cifar(tmp_path, CIFAR100).train_set(), cifar(tmp_path, CIFAR100).test_set()
    assert train.labels.tolist() == list(range(99, 87, -1))
    assert test.labels.tolist() == list(range(99, 93, -1))
    np.testing.assert_array_equal(train.images.permute(0, 2, 3, 1).numpy(), noise(12, 101))
    np.testing.assert_array_equal(test.images.permute(0, 2, 3, 1).numpy(), noise(6, 102))


def test_files_whose_sums_are_listed_pass_the_check(tmp_path, monkeypatch):
    make_cifar10(tmp_path)
    content = (tmp_path / "cifar-10-batches-py" / "test_batch").read_bytes()
    monkeypatch.setitem(cards()["cifar10"].sums["test"], f"{FOLDER}/test_batch", hashlib.md5(content).hexdigest())
    test = cifar(tmp_path, verify=True).test_set()
    np.testing.assert_array_equal(test.images.permute(0, 2, 3, 1).numpy(), noise(6, 6))


def test_another_sum_is_told_with_both_sums(tmp_path):
    make_cifar10(tmp_path)
    file = tmp_path / "cifar-10-batches-py" / "test_batch"
    found = hashlib.md5(file.read_bytes()).hexdigest()
    with pytest.raises(UserError) as error:
        cifar(tmp_path, verify=True).test_set()
    for part in (str(file), found, "40351d587109b95175f43aff81a1287e", "paths.verify=false"):
        assert part in str(error.value)


def test_sums_are_torchvisions():
    from torchvision import datasets

    for name, official in (("cifar10", datasets.CIFAR10), ("cifar100", datasets.CIFAR100)):
        card = cards()[name]
        (archive,) = card.archives
        assert archive.provides == (official.base_folder,)
        files = [name for name, _ in [*official.train_list, *official.test_list]]
        assert card.layouts == (tuple(f"{official.base_folder}/{name}" for name in files),)
        assert (archive.url, archive.file, archive.md5) == (official.url, official.filename, official.tgz_md5)
        for split, published in (("train", official.train_list), ("test", official.test_list)):
            assert list(card.sums[split].items()) == [
                (f"{official.base_folder}/{file}", md5) for file, md5 in published
            ]


@pytest.mark.parametrize(("reader", "classes"), [(CIFAR10, 10), (CIFAR100, 100)])
def test_classes_and_normalisation_are_those_of_the_paper(tmp_path, reader, classes):
    data = cifar(tmp_path, reader)
    assert data.num_classes == classes
    assert data.mean == pytest.approx([value / 255 for value in (125.3, 123.0, 113.9)], abs=1e-15)
    assert data.std == pytest.approx([value / 255 for value in (63.0, 62.1, 66.7)], abs=1e-15)


@pytest.mark.parametrize(
    ("reader", "make", "seed"), [(CIFAR10Test, make_cifar10, 6), (CIFAR100Test, make_cifar100, 102)]
)
def test_the_test_images_serve_elsewhere_as_ood(tmp_path, reader, make, seed):
    make(tmp_path)
    images = reader(root=str(tmp_path), verify=False).load().images
    np.testing.assert_array_equal(images.permute(0, 2, 3, 1).numpy(), noise(6, seed))


def test_as_ood_the_set_is_verified_and_missed_as_in_distribution(tmp_path):
    with pytest.raises(UserError, match=f"prepare cifar10 --root {tmp_path}` downloads it"):
        CIFAR10Test(root=str(tmp_path), verify=False).load()
    make_cifar10(tmp_path)
    with pytest.raises(UserError, match="expected 40351d587109b95175f43aff81a1287e"):
        CIFAR10Test(root=str(tmp_path)).load()


def test_a_missing_set_is_told_with_where_it_was_looked_for_and_what_to_unpack(tmp_path):
    with pytest.raises(UserError) as error:
        cifar(tmp_path, CIFAR100).train_set()
    told = str(error.value)
    assert told.startswith(f"CIFAR-100 is not there: no cifar-100-python/train in {tmp_path}: ")
    assert f"`python -m aloe_lightning.data prepare cifar100 --root {tmp_path}` downloads it" in told


def test_every_missing_file_is_named_and_no_other(tmp_path):
    make_cifar10(tmp_path)
    for file in ("data_batch_2", "data_batch_5"):
        (tmp_path / "cifar-10-batches-py" / file).unlink()
    missing = ", ".join(f"cifar-10-batches-py/data_batch_{number}" for number in (2, 5))
    with pytest.raises(UserError, match=f"CIFAR-10 is incomplete in {tmp_path}, {missing} missing: "):
        cifar(tmp_path).train_set()
    assert len(cifar(tmp_path).test_set()) == 6


def test_a_missing_test_batch_is_named_though_it_is_the_only_file_of_its_split(tmp_path):
    make_cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "test_batch").unlink()
    with pytest.raises(UserError, match=f"incomplete in {tmp_path}, cifar-10-batches-py/test_batch missing: "):
        cifar(tmp_path).test_set()


def test_a_root_in_the_home_folder_is_found_and_told_in_full(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    make_cifar10(tmp_path / "sets")
    assert len(cifar("~/sets").test_set()) == 6
    with pytest.raises(UserError) as error:
        cifar("~/other").test_set()
    assert f"no cifar-10-batches-py/data_batch_1 in {tmp_path / 'other'}:" in str(error.value)
    assert "~" not in str(error.value)


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.999])
def test_a_truncated_file_is_named(tmp_path, kept):
    make_cifar10(tmp_path)
    file = tmp_path / "cifar-10-batches-py" / "data_batch_4"
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(UserError, match="data_batch_4: truncated or not a CIFAR batch"):
        cifar(tmp_path).train_set()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]}, "must have uint8 rows of 3072 and labels"),
        ({b"data": np.zeros((2, 3072), np.float32), b"labels": [1, 2]}, "must have uint8 rows of 3072 and labels"),
        ({b"data": np.zeros((2, 1024), np.uint8), b"labels": [1, 2]}, "must have uint8 rows of 3072 and labels"),
        ({b"labels": [1, 2]}, "must have uint8 rows of 3072 and labels"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, 10]}, r"labels outside 0\.\.9"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [-1, 1]}, r"labels outside 0\.\.9"),
        ([1, 2], "not a CIFAR batch"),
    ],
)
def test_a_pickle_of_other_content_is_refused_by_name(tmp_path, content, told):
    make_cifar10(tmp_path)
    write_pickle(tmp_path / "cifar-10-batches-py" / "data_batch_3", content)
    with pytest.raises(UserError, match=rf"data_batch_3.*{told}"):
        cifar(tmp_path).train_set()


def test_batches_repickled_by_todays_numpy_and_python_are_read_too(tmp_path):
    make_cifar10(tmp_path)
    content = {b"data": cifar_rows(noise(2, 7)), b"labels": np.array([4, 2])}
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps(content))
    test = cifar(tmp_path).test_set()
    np.testing.assert_array_equal(test.images.permute(0, 2, 3, 1).numpy(), noise(2, 7))
    assert test.labels.tolist() == [4, 2]
