"""Arrays and tensors of every odd form: the pixels that were meant, or one line that says how to convert them."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from aloe_lightning.data import LabelledArrays, NpyImages
from aloe_lightning.errors import UserError
from aloe_lightning.robustness.images import images_of
from data.fakes import noise

PIXELS = noise(8, 1)
LABELS = np.arange(8) % 2
CHW = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)


def read_npz(images, folder, **more):
    np.savez(folder / "a.npz", images=images, labels=LABELS, **more)
    return LabelledArrays(train=str(folder / "a.npz"), test="none.npz").train_set().images


def read_npy(images, folder):
    np.save(folder / "a.npy", images)
    source = NpyImages(path=str(folder / "a.npy")).load()
    return source.take(torch.arange(len(source)))


READERS = {"npz": read_npz, "npy": read_npy}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("form", [np.asarray, np.asfortranarray, lambda x: x[::-1][::-1]])
def test_pixels_come_as_they_are(reader, form, tmp_path):
    assert torch.equal(READERS[reader](form(PIXELS), tmp_path), CHW)


CONVERTED = {
    "floats in [0, 1]": PIXELS / 255,
    "float32 in [0, 1]": np.float32(PIXELS / 255),
    "floats in [0, 255]": PIXELS.astype(np.float32),
    "channels first": PIXELS.transpose(0, 3, 1, 2),
    "channels first, floats": PIXELS.transpose(0, 3, 1, 2) / 255,
    "int64": PIXELS.astype(np.int64),
    "big endian": PIXELS.astype(">u2"),
    "with transparency": np.concatenate([PIXELS, PIXELS[..., :1]], 3),
}
GREY = {"grey": PIXELS[..., 0], "grey with an axis": PIXELS[..., :1], "grey floats": PIXELS[..., 0] / 255}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("form", [*CONVERTED, *GREY])
def test_another_form_is_refused_with_the_expression_that_converts_it(reader, form, tmp_path):
    array = {**CONVERTED, **GREY}[form]
    with pytest.raises(UserError) as refusal:
        READERS[reader](array, tmp_path)
    expression = str(refusal.value).split(": ")[-1].removesuffix(" converts them")
    converted = eval(expression, {"x": array, "np": np})
    expected = PIXELS[..., :1].repeat(3, -1) if form in GREY else PIXELS
    assert converted.dtype == np.uint8
    np.testing.assert_array_equal(converted, expected)


NO_IMAGES = {
    "NaN": (np.where(PIXELS > 9, PIXELS, np.nan), "which colours they mean is not known"),
    "normalised": (PIXELS / 64 - 2, "which colours they mean is not known"),
    "objects": (PIXELS.astype(object), "cannot read"),
    "one image": (PIXELS[0], "uint8 (32, 32, 3)"),
    "none": (PIXELS[:0], "uint8"),
    "no pixels": (PIXELS[:, :0], "uint8"),
    "cast from floats": ((PIXELS > 128).astype(np.uint8), "cast to uint8 without multiplying"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("form", NO_IMAGES)
def test_an_array_that_is_no_images_is_refused(reader, form, tmp_path):
    array, part = NO_IMAGES[form]
    with pytest.raises(UserError) as refusal:
        READERS[reader](array, tmp_path)
    assert part.replace("(32, 32, 3)", "") in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("names", [("x", "y"), ("x_train", "y_train", "x_test", "y_test"), ("images",), ()])
def test_an_archive_of_other_arrays_is_told_with_their_names(names, tmp_path):
    np.savez(tmp_path / "a.npz", **dict.fromkeys(names, PIXELS))
    with pytest.raises(UserError, match=f"it has {', '.join(names)}, not"):
        LabelledArrays(train=str(tmp_path / "a.npz"), test="none.npz").train_set()


def pixels_of(data, size=None):
    return torch.cat([batch.images for batch in images_of("photos", data, size, 3)])


def mapped(folder):
    np.save(folder / "m.npy", PIXELS)
    return torch.from_numpy(np.load(folder / "m.npy", mmap_mode="c")).permute(0, 3, 1, 2)


TENSORS = {
    "uint8": lambda _: CHW,
    "float32": lambda _: CHW / 255,
    "float64": lambda _: CHW.double() / 255,
    "with gradient": lambda _: (CHW / 255).requires_grad_(),
    "pair": lambda _: (CHW / 255, torch.from_numpy(LABELS)),
    "loader": lambda _: DataLoader(TensorDataset(CHW, torch.from_numpy(LABELS)), 5),
    "list of batches": lambda _: [CHW[:5], CHW[5:]],
    "mapped": mapped,
    "black": lambda _: CHW * 0,
}


@pytest.mark.parametrize("form", TENSORS)
def test_tensors_become_floats_in_01(form, tmp_path):
    expected = CHW.float() / 255 if form != "black" else torch.zeros(CHW.shape)
    assert torch.equal(pixels_of(TENSORS[form](tmp_path)), expected)


FLOATS = CHW / 255
OTHER_TENSORS = {
    "[0, 255]": (CHW.float(), "they look like 0..255"),
    "[0, 255], dark": ((CHW // 16).float(), "they look like 0..255"),
    "[-1, 1]": (FLOATS * 2 - 1, "mean=(r, g, b)"),
    "cast": (FLOATS.byte(), "floats in [0, 1] were cast"),
    "NaN": (torch.where(FLOATS > 0.5, FLOATS, torch.nan), "pixels are not finite"),
    "inf": (FLOATS / 0, "pixels are not finite"),
    "int64": (CHW.long(), "must be uint8, or floats"),
    "bool": (CHW > 9, "must be uint8, or floats"),
    "complex": (FLOATS.to(torch.complex64), "must be uint8, or floats"),
    "channels last": (FLOATS.permute(0, 2, 3, 1), "images.permute(0, 3, 1, 2)"),
    "grey": (FLOATS[:, :1], "images.expand(-1, 3, -1, -1)"),
    "grey without an axis": (FLOATS[:, 0], "(N, 3, H, W)"),
    "with transparency": (torch.cat([FLOATS, FLOATS[:, :1]], 1), "images[:, :3]"),
    "one image": (FLOATS[0], "image[None]"),
    "sparse": (FLOATS.to_sparse(), "without stored values"),
    "meta": (FLOATS.to("meta"), "without stored values"),
    "no pixels": (torch.zeros(2, 3, 0, 0), "(N, 3, H, W)"),
    "NumPy": (PIXELS, "torch.from_numpy"),
    "mapping": ({"images": FLOATS}, "a batch of images is str"),
    "triple": ((FLOATS, torch.from_numpy(LABELS), FLOATS), "a batch of images is torch.int64"),
    "nothing": (None, "NoneType is no DataLoader"),
    "one pass": ((x for x in [FLOATS]), "can be read only once"),
}


@pytest.mark.parametrize("form", OTHER_TENSORS)
def test_tensors_that_are_no_pixels_are_refused(form):
    data, part = OTHER_TENSORS[form]
    with pytest.raises(UserError) as refusal:
        pixels_of(data)
    assert part in str(refusal.value)
