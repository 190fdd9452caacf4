"""Images of other sizes than 32x32: every reader gives one size, and a resized set is said."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import center_crop, resize

from aloe_lightning.data import (
    BatchSizes,
    ImageFolder,
    ImageSet,
    LabelledArrays,
    LabelledFolder,
    NpyImages,
    RobustOODData,
)
from aloe_lightning.data.images.resized import ResizedSource, of_size
from aloe_lightning.data.images.source import chunks

SIZE = 48


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (6, 60, 52, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path, pixels):
    for k, picture in enumerate(pixels):
        place = tmp_path / "train" / f"class{k % 2}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place / f"{k}.png")
    return tmp_path / "train"


def expected(picture):
    return np.asarray(center_crop(resize(Image.fromarray(picture), [SIZE]), [SIZE, SIZE]))


def test_class_folders_are_resized_to_the_size_and_cached_apart(folder, pixels):
    data = LabelledFolder(train=str(folder), test=str(folder), size=SIZE)
    images = data.train_set()
    assert images.rows.shape == (6, SIZE, SIZE, 3)
    order = [0, 2, 4, 1, 3, 5]
    for row, k in zip(images.rows, order, strict=True):
        assert np.array_equal(row, expected(pixels[k]))
    assert LabelledFolder(train=str(folder), test=str(folder)).train_set().rows.shape == (6, 32, 32, 3)
    values = np.stack([expected(pixels[k]) for k in order]).reshape(-1, 3) / 255
    assert data.mean == pytest.approx(values.mean(0))
    assert data.std == pytest.approx(values.std(0))


def test_arrays_are_resized_and_it_is_said(tmp_path, pixels, caplog):
    np.savez(tmp_path / "set.npz", images=pixels, labels=np.arange(6) % 2)
    with caplog.at_level(logging.INFO):
        images = LabelledArrays(train=str(tmp_path / "set.npz"), test=str(tmp_path / "set.npz"), size=SIZE).test_set()
    assert images.images.shape == (6, 3, SIZE, SIZE)
    assert "images resized from 52x60 to 48x48" in caplog.text


def test_all_sets_of_a_run_have_the_size_of_the_data(tmp_path, folder, pixels, caplog):
    np.save(tmp_path / "outliers.npy", pixels[:, :40, :40])
    np.save(tmp_path / "far.npy", pixels[:, :SIZE, :SIZE])
    data = RobustOODData(
        LabelledFolder(train=str(folder), test=str(folder), size=SIZE),
        NpyImages(path=str(tmp_path / "outliers.npy")),
        {"far": NpyImages(path=str(tmp_path / "far.npy")), "near": ImageFolder(path=str(folder), size=SIZE)},
        batch=BatchSizes(inliers=4, outliers=4),
        seed=0,
    )
    with caplog.at_level(logging.INFO):
        data.setup("fit")
        sets = data.ood_sets()
    assert "outliers: images resized from 40x40 to 48x48" in caplog.text
    assert "far" not in caplog.text
    assert np.array_equal(sets["far"].images.permute(0, 2, 3, 1).numpy(), pixels[:, :SIZE, :SIZE])
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert batch.inliers.shape == batch.outliers.shape == (4, 3, SIZE, SIZE)


def test_a_resized_source_is_the_resized_images(pixels):
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    whole = of_size(ImageSet(images, torch.arange(6)), SIZE, "set")
    source = ResizedSource(ImageSet(images, torch.arange(6)), SIZE)
    picked = torch.tensor([4, 1])
    assert torch.equal(source.take(picked), whole.take(picked))
    assert torch.equal(whole.take(picked), center_crop(resize(images[picked], [SIZE], antialias=True), [SIZE, SIZE]))
    assert torch.equal(source.labels, torch.arange(6))
    assert of_size(whole, SIZE, "set") is whole


def test_chunks_of_large_images_hold_as_many_pixels():
    images = ImageSet(torch.zeros(40, 3, 640, 640, dtype=torch.uint8))
    assert [len(part) for part in chunks(images)] == [20, 20]
