"""The named outliers: the pixels are those that were written, and each "no" names the file."""

import hashlib
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import torch

from aloe_lightning.data import BatchSizes, ImageNet32, ImageSet, RandomImages300K, RobustOODData, TinyImages
from aloe_lightning.data.catalogue import cards
from aloe_lightning.data.images.files import write_header
from aloe_lightning.errors import UserError
from data.archives import make_imagenet32, make_tiny_images
from data.fakes import cifar_rows, make_npy, noise, write_pickle


def hwc(images):
    return images.permute(0, 2, 3, 1).numpy()


def whole(source):
    return hwc(source.take(torch.arange(len(source))))


def tiny(root, **settings):
    return TinyImages(root=str(root), **{"verify": False} | settings).load()


def images300k(root, **settings):
    return RandomImages300K(root=str(root), **settings).load()


def imagenet(root, **settings):
    return ImageNet32(root=str(root), **{"verify": False} | settings).load()


def error_of(read, *arguments, **settings):
    with pytest.raises(UserError) as error:
        read(*arguments, **settings)
    return str(error.value)


def published(monkeypatch, kind, **facts):
    """Let the card state other facts."""
    monkeypatch.setitem(cards(), kind.dataset, replace(cards()[kind.dataset], **facts))


# --- 80 Million Tiny Images ---


@pytest.mark.filterwarnings("ignore:loadtxt")  # numpy's, of an empty list
@pytest.mark.parametrize("seed", [500, 501])
def test_a_record_is_the_image_column_by_column(tmp_path, seed):
    make_tiny_images(tmp_path, count=7, excluded=(), seed=seed)
    records = np.fromfile(tmp_path / "80M_Tiny_Images" / "tiny_images.bin", np.uint8).reshape(-1, 3072)
    loaded = whole(tiny(tmp_path))
    np.testing.assert_array_equal(loaded, [np.reshape(record, (32, 32, 3), order="F") for record in records])
    np.testing.assert_array_equal(loaded, noise(7, seed))


@pytest.mark.filterwarnings("ignore:loadtxt")
@pytest.mark.parametrize("excluded", [(), (1,), (20,), (3, 20), (20, 3, 3, 4), range(2, 21)])
def test_excluded_images_counted_from_one_are_skipped(tmp_path, excluded):
    make_tiny_images(tmp_path, excluded=excluded)
    kept = [index for index in range(20) if index + 1 not in excluded]
    source = tiny(tmp_path)
    assert len(source) == len(kept)
    np.testing.assert_array_equal(whole(source), noise(20, 500)[kept])


def test_tiny_images_come_in_the_order_asked_and_again_if_asked_again(tmp_path):
    make_tiny_images(tmp_path, excluded=(1, 10))
    kept = [index for index in range(20) if index not in (0, 9)]
    asked = [17, 0, 9, 0, 8, 17]
    np.testing.assert_array_equal(hwc(tiny(tmp_path).take(torch.tensor(asked))), noise(20, 500)[kept][asked])


def test_tiny_images_are_mapped_and_an_epoch_reads_them_in_blocks(tmp_path):
    make_tiny_images(tmp_path)
    source = tiny(tmp_path)
    assert (source.order, source.labels) == ("blocks", None)
    assert isinstance(source.source.rows, np.memmap)


@pytest.mark.parametrize("file", ["tiny_images.bin", "80mn_cifar_idxs.txt"])
def test_another_file_has_another_identity_and_the_same_has_the_same(tmp_path, file):
    make_tiny_images(tmp_path)
    before = tiny(tmp_path).identity
    assert tiny(tmp_path).identity == before
    content = (tmp_path / "80M_Tiny_Images" / file).read_bytes()
    (tmp_path / "80M_Tiny_Images" / file).write_bytes(content * 2)
    assert tiny(tmp_path).identity != before


@pytest.mark.parametrize("size", [0, 1, 3071, 3073, 20 * 3072 - 1])
def test_a_truncated_or_empty_record_file_is_named_with_its_size(tmp_path, size):
    make_tiny_images(tmp_path)
    file = tmp_path / "80M_Tiny_Images" / "tiny_images.bin"
    file.write_bytes(file.read_bytes()[:size])
    message = error_of(tiny, tmp_path)
    assert message == f"{file} has {size:,} bytes, no whole number of images of 3,072: it is truncated"


@pytest.mark.parametrize("text", ["three\n", "1\ntwo\n", "1.5\n", "1 2\n", "1 2\n3 4\n", "1\n2\n3 4\n", "9" * 30])
def test_an_exclusion_list_of_other_things_is_named(tmp_path, text):
    make_tiny_images(tmp_path)
    file = tmp_path / "80M_Tiny_Images" / "80mn_cifar_idxs.txt"
    file.write_text(text)
    assert error_of(tiny, tmp_path).startswith(f"cannot read {file}: not one index per line")


@pytest.mark.parametrize("index", [0, -3, 21, 79_302_017])
def test_an_excluded_image_that_is_not_there_is_told(tmp_path, index):
    make_tiny_images(tmp_path, excluded=(5, index))
    file = tmp_path / "80M_Tiny_Images" / "80mn_cifar_idxs.txt"
    assert error_of(tiny, tmp_path).startswith(f"{file} names images outside 1..20")


def test_verified_tiny_images_are_as_many_as_published(tmp_path, monkeypatch):
    make_tiny_images(tmp_path)
    message = error_of(tiny, tmp_path, verify=True)
    assert "20 images where the official set has 79,302,017" in message
    assert str(tmp_path) in message
    published(monkeypatch, TinyImages, images={"train": 20})
    assert len(tiny(tmp_path, verify=True)) == 18


@pytest.mark.parametrize("lost", ["tiny_images.bin", "80mn_cifar_idxs.txt"])
def test_half_of_tiny_images_is_incomplete_and_the_other_half_is_named(tmp_path, lost):
    make_tiny_images(tmp_path)
    (tmp_path / "80M_Tiny_Images" / lost).unlink()
    assert f"incomplete in {tmp_path}, 80M_Tiny_Images/{lost} missing: its creators withdrew it" in error_of(
        tiny, tmp_path
    )


@pytest.mark.parametrize("epoch", range(4))
def test_two_processes_see_different_tiny_images_and_no_excluded_one(tmp_path, epoch):
    make_tiny_images(tmp_path, count=60, excluded=(3, 20, 60))
    kept = {image.tobytes(): index for index, image in enumerate(noise(60, 500)) if index + 1 not in (3, 20, 60)}
    seen = []
    for rank in (0, 1):
        with patch("aloe_lightning.data.batches.rank_and_world_size", return_value=(rank, 2)):
            data = data_with(TinyImages(root=str(tmp_path), verify=False))
            loader = data.train_dataloader()
            loader.sampler.set_epoch(epoch)
            pixels = [image for batch in loader for image in hwc(batch.outliers)]
        seen.append([list(kept).index(np.ascontiguousarray(image).tobytes()) for image in pixels])
    first, second = seen
    assert len(first) == len(second) == len(set(first)) == len(set(second)) == 18  # of 12 inliers each, 4 with 6
    assert not set(first) & set(second)
    for places in seen:
        assert places == [(places[0] + step) % len(kept) for step in range(18)]


def data_with(source):
    data = RobustOODData(Inliers(), source, {}, batch=BatchSizes(inliers=4, outliers=6), seed=3)
    data.setup("fit")
    return data


class Inliers:
    split, augment_outliers = "test", False

    def excluded_from_training(self):
        return {}

    def train_set(self):
        return ImageSet(torch.from_numpy(noise(24, 1)).permute(0, 3, 1, 2), torch.arange(24) % 10)

    def test_set(self):
        return ImageSet(torch.from_numpy(noise(5, 2)).permute(0, 3, 1, 2), torch.arange(5))


@pytest.mark.slow
def test_real_tiny_images_are_the_pictures_without_those_excluded(tmp_path, shared):
    if not (shared / "data" / "unpack.py").is_file():
        pytest.skip("no real images")
    command = [sys.executable, str(shared / "data" / "unpack.py"), str(tmp_path), "outliers", "tiny_images"]
    subprocess.run(command, check=True, capture_output=True)
    excluded = {int(line) - 1 for line in (tmp_path / "80M_Tiny_Images" / "80mn_cifar_idxs.txt").read_text().split()}
    pictures = np.load(tmp_path / "outliers" / "tiny_imagenet_32x32.npy", mmap_mode="r")
    kept = [index for index in range(20_000) if index not in excluded]
    assert len(kept) == 19_800
    np.testing.assert_array_equal(whole(tiny(tmp_path)), pictures[kept])


# --- 300K Random Images ---


def test_random_images_of_another_sum_are_told_with_both_sums_and_read_unverified(tmp_path):
    file = tmp_path / "300K_random_images.npy"
    make_npy(file, count=9, seed=8)
    message = error_of(images300k, tmp_path)
    found = hashlib.md5(file.read_bytes()).hexdigest()
    for part in (str(file), found, "64ca64357de98351f28454274a112dc3", "paths.verify=false"):
        assert part in message
    np.testing.assert_array_equal(whole(images300k(tmp_path, verify=False)), noise(9, 8))


def test_random_images_of_the_published_sum_are_read_verified_and_mapped(tmp_path, monkeypatch):
    file = tmp_path / "300K_random_images.npy"
    make_npy(file, count=9, seed=8)
    sums = {"train": {file.name: hashlib.md5(file.read_bytes()).hexdigest()}}
    published(monkeypatch, RandomImages300K, sums=sums)
    source = images300k(tmp_path)
    assert isinstance(source.rows, np.memmap)
    np.testing.assert_array_equal(whole(source), noise(9, 8))


def test_random_images_that_are_missing_are_told_with_what_fetches_them(tmp_path):
    message = error_of(images300k, tmp_path)
    assert message.startswith(f"300K Random Images is not there: no 300K_random_images.npy in {tmp_path}: ")
    assert f"`python -m aloe_lightning.data prepare random_images_300k --root {tmp_path}`" in message


# --- ImageNet 32x32 ---

BATCHES = range(1, 11)


def make_npz(root):
    (root / "imagenet32").mkdir()
    for number in BATCHES:
        content = {"data": cifar_rows(noise(2, 600 + number)), "labels": np.arange(2)}
        np.savez(root / "imagenet32" / f"train_data_batch_{number}.npz", **content)


def make_text(root):
    make_imagenet32(root, text_keys=True)


def make_bytes(root):
    make_imagenet32(root, text_keys=False)


@pytest.mark.parametrize("make", [make_text, make_bytes, make_npz])
def test_imagenet_is_its_ten_files_one_after_another(tmp_path, make):
    make(tmp_path)
    source = imagenet(tmp_path)
    np.testing.assert_array_equal(whole(source), np.concatenate([noise(2, 600 + number) for number in BATCHES]))
    assert (source.labels, source.order) == (None, "shuffled")


@pytest.mark.parametrize("make", [make_text, make_npz])
def test_imagenet_is_put_together_once(tmp_path, monkeypatch, make):
    make(tmp_path)
    first = imagenet(tmp_path)

    def refuse(*_):
        raise AssertionError("read again")

    monkeypatch.setattr(ImageNet32, "_read_batch", refuse)
    again = imagenet(tmp_path)
    assert again.rows.filename == first.rows.filename
    np.testing.assert_array_equal(whole(again), whole(first))
    shutil.copytree(tmp_path, tmp_path / "other")  # another place is another set
    with pytest.raises(AssertionError, match="read again"):
        imagenet(tmp_path / "other")


def test_imagenet_is_put_together_anew_when_a_file_changes(tmp_path):
    make_text(tmp_path)
    imagenet(tmp_path)
    content = {"data": cifar_rows(noise(3, 9))}
    (tmp_path / "imagenet32" / "train_data_batch_10").write_bytes(pickle.dumps(content))
    np.testing.assert_array_equal(whole(imagenet(tmp_path))[18:], noise(3, 9))


WRONG = {
    "dtype": {"data": np.zeros((2, 3072), np.float32)},
    "shape": {"data": np.zeros((2, 1024), np.uint8)},
    "dimensions": {"data": np.zeros((2, 3, 32, 32), np.uint8)},
    "key": {"images": np.zeros((2, 3072), np.uint8)},
}


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("suffix", ["", ".npz"])
def test_a_batch_of_other_content_is_refused_by_name(tmp_path, content, suffix):
    (make_npz if suffix else make_text)(tmp_path)
    file = tmp_path / "imagenet32" / f"train_data_batch_7{suffix}"
    if suffix:
        np.savez(file, **content)
    else:
        write_pickle(file, {key.encode(): rows for key, rows in content.items()})
    assert error_of(imagenet, tmp_path).startswith(f"cannot read {file}: truncated or not a batch of ImageNet 32x32 (")


@pytest.mark.parametrize("kept", [0, 1, 0.5, 0.98])
@pytest.mark.parametrize("suffix", ["", ".npz"])
def test_a_truncated_batch_is_named(tmp_path, kept, suffix):
    (make_npz if suffix else make_text)(tmp_path)
    file = tmp_path / "imagenet32" / f"train_data_batch_3{suffix}"
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    assert error_of(imagenet, tmp_path).startswith(f"cannot read {file}: truncated or not a batch of ImageNet 32x32 (")


class Code:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize("suffix", ["", ".npz"])
def test_code_in_a_batch_is_refused_and_not_run(tmp_path, capsys, suffix):
    (make_npz if suffix else make_text)(tmp_path)
    file = tmp_path / "imagenet32" / f"train_data_batch_1{suffix}"
    if suffix:
        np.savez(file, data=np.array([Code()], object))
    else:
        file.write_bytes(pickle.dumps({"data": Code()}))
    message = error_of(imagenet, tmp_path)
    assert message.startswith(f"cannot read {file}: ")
    assert ("Object arrays cannot be loaded" if suffix else "it would load builtins.print") in message
    assert "executed" not in capsys.readouterr().out


def test_a_refused_batch_leaves_nothing_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ALOE_CACHE", str(tmp_path / "cache"))
    make_text(tmp_path)
    file = tmp_path / "imagenet32" / "train_data_batch_10"
    whole_file = file.read_bytes()
    file.write_bytes(b"")
    error_of(imagenet, tmp_path)
    assert not list((tmp_path / "cache").rglob("*.npy"))
    file.write_bytes(whole_file)
    assert len(imagenet(tmp_path)) == 20


def test_verified_imagenet_has_as_many_images_as_published(tmp_path, monkeypatch):
    make_text(tmp_path)
    assert "20 images where the official set has 1,281,167" in error_of(imagenet, tmp_path, verify=True)
    published(monkeypatch, ImageNet32, images={"train": 20})
    assert len(imagenet(tmp_path, verify=True)) == 20


def test_imagenet_that_lacks_a_file_is_incomplete_and_one_that_is_not_there_is_placed_by_hand(tmp_path):
    places = "imagenet32/train_data_batch_1 nor imagenet32/train_data_batch_1.npz"
    assert f"ImageNet 32x32 is not there: no {places} in {tmp_path}: its terms require" in error_of(imagenet, tmp_path)
    make_text(tmp_path)
    (tmp_path / "imagenet32" / "train_data_batch_4").unlink()
    assert f"incomplete in {tmp_path}, imagenet32/train_data_batch_4 missing: its terms" in error_of(imagenet, tmp_path)


def test_the_header_of_the_cached_array_is_as_long_for_one_image_as_for_all(tmp_path):
    for count in (0, 1, 1_281_167, 79_302_017):
        with (tmp_path / "header").open("wb") as stream:
            write_header(stream, count)
            assert stream.tell() == 128
