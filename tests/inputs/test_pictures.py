"""Picture files of every odd kind: the pixels that a viewer shows, or one line that names the file."""

import io
import os

import numpy as np
import pytest
import torch
from PIL import Image

from aloe_lightning.data import ImageFolder, LabelledFolder
from aloe_lightning.data.images.files import pictures_in, read_image
from aloe_lightning.errors import UserError
from data.fakes import noise

(PIXELS,) = noise(1, 5)
RAMP = (np.arange(1024, dtype=np.uint16) * 64).reshape(32, 32)
RGB = Image.fromarray(PIXELS)
BLACK, WHITE = Image.new("RGB", (32, 32)), Image.new("RGB", (32, 32), "white")
PALETTE = RGB.convert("P")
GREY = np.repeat(PIXELS[..., :1], 3, 2)

EXACT = {
    "16 bits.png": (lambda f: Image.fromarray(RAMP).save(f), np.repeat(RAMP[..., None] >> 8, 3, 2)),
    "16 bits.tif": (lambda f: Image.fromarray(RAMP).save(f), np.repeat(RAMP[..., None] >> 8, 3, 2)),
    "big endian.tif": (lambda f: Image.fromarray(RAMP.astype(">u2")).save(f), np.repeat(RAMP[..., None] >> 8, 3, 2)),
    "grey.pgm": (lambda f: Image.fromarray(PIXELS[..., 0]).save(f, "PPM"), GREY),
    "grey and alpha.png": (lambda f: Image.merge("LA", RGB.split()[:2]).save(f), GREY),
    "CMYK.tif": (lambda f: RGB.convert("CMYK").save(f), PIXELS),
    "palette.png": (lambda f: PALETTE.save(f), np.asarray(PALETTE.convert("RGB"))),
    "transparent palette.png": (lambda f: PALETTE.save(f, transparency=0), np.asarray(PALETTE.convert("RGB"))),
    "transparent.png": (lambda f: Image.merge("RGBA", (*RGB.split(), Image.new("L", (32, 32)))).save(f), PIXELS),
    "first image.gif": (lambda f: BLACK.save(f, save_all=True, append_images=[WHITE]), np.asarray(BLACK)),
    "first image.webp": (lambda f: BLACK.save(f, save_all=True, append_images=[WHITE]), np.asarray(BLACK)),
    "first page.tiff": (lambda f: WHITE.save(f, save_all=True, append_images=[BLACK]), np.asarray(WHITE)),
    "UPPER.PNG": (lambda f: RGB.save(f), PIXELS),
    "BMP in disguise.png": (lambda f: RGB.save(f, "BMP"), PIXELS),
    "ü 写真 'a', b=[c].png": (lambda f: RGB.save(f), PIXELS),
    "1 pixel.png": (lambda f: Image.new("RGB", (1, 1), (1, 2, 3)).save(f), np.full((32, 32, 3), (1, 2, 3))),
    "narrow.png": (lambda f: Image.new("RGB", (1, 900), (1, 2, 3)).save(f), np.full((32, 32, 3), (1, 2, 3))),
}


@pytest.mark.parametrize("name", EXACT)
def test_pixels_are_those_that_were_saved(name, tmp_path):
    save, expected = EXACT[name]
    save(tmp_path / name)
    source = ImageFolder(path=str(tmp_path)).load()
    np.testing.assert_array_equal(source.take(torch.arange(len(source)))[0].permute(1, 2, 0), expected)


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.jpe", "a.jfif", "CMYK.jpg"])
def test_every_suffix_of_jpeg_is_read(name, tmp_path):
    (RGB.convert("CMYK") if "CMYK" in name else RGB).save(tmp_path / name, "JPEG", quality=100, subsampling=0)
    assert pictures_in(tmp_path) == [tmp_path / name]
    assert np.abs(read_image(tmp_path / name).astype(int) - PIXELS).max() <= 8


@pytest.mark.parametrize(
    ("orientation", "corner"),
    [(1, (0, 0)), (2, (0, -1)), (3, (-1, -1)), (4, (-1, 0)), (5, (0, 0)), (6, (0, -1)), (7, (-1, -1)), (8, (-1, 0))],
)
def test_every_orientation_of_exif_is_applied(orientation, corner, tmp_path):
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    (found,) = np.argwhere(read_image(tmp_path / "a.png")[..., 0]).tolist()
    assert found == [place % 32 for place in corner]


def encoded(kind):
    stream = io.BytesIO()
    RGB.save(stream, kind)
    return stream.getvalue()


BROKEN = {
    "zero.png": b"",
    "text.png": b"no picture",
    "half.png": encoded("PNG")[:1000],
    "half.jpg": encoded("JPEG")[:500],
    "page.jpg": b"<html>404</html>",
    "lfs.png": b"version https://git-lfs.github.com/spec/v1\n",
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named_with_what_to_do(name, tmp_path):
    (tmp_path / name).write_bytes(BROKEN[name])
    with pytest.raises(UserError) as refusal:
        ImageFolder(path=str(tmp_path)).load()
    assert str(refusal.value).startswith(f"cannot read the image {tmp_path / name} (")
    assert str(refusal.value).endswith(": repair or remove it")


@pytest.mark.parametrize("largest", [255, 1023, 4095])
def test_few_bits_in_16_are_refused_for_they_would_be_black(largest, tmp_path):
    Image.fromarray(np.full((32, 32), largest, np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=f"at most {largest}, nearly black"):
        read_image(tmp_path / "a.png")


SYSTEM = [".DS_Store", "Thumbs.db", "desktop.ini", "._a.png", "__MACOSX/cat/._a.png", "__MACOSX/b.png", "@eaDir/a.png"]
SYSTEM += ["$RECYCLE.BIN/z.png", "lost+found/a.jpg", ".ipynb_checkpoints/a.png", "cat/.hidden.png"]


def test_hidden_and_system_files_are_no_pictures_and_no_classes(tmp_path):
    for name in (*SYSTEM, "cat/1.png", "dog/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        RGB.save(tmp_path / name, "PNG")
    assert pictures_in(tmp_path) == [tmp_path / "cat" / "1.png", tmp_path / "dog" / "2.png"]
    assert LabelledFolder(train=str(tmp_path), test="x").train_set().labels.tolist() == [0, 1]


def test_pictures_of_other_formats_are_left_out_with_a_warning(tmp_path, caplog):
    for name in ("a.png", "b.HEIC", "c.svg"):
        RGB.save(tmp_path / name, "PNG")
    assert pictures_in(tmp_path) == [tmp_path / "a.png"]
    assert "2 pictures left out, such as b.HEIC" in caplog.text


def loop(folder):
    (folder / "loop").symlink_to(folder)
    (folder / "a.png").symlink_to("a.png")


ODD_FILES = {
    "pipe": (lambda folder: os.mkfifo(folder / "a.png"), "is a pipe"),
    "link to itself": (loop, "cannot read"),
    "link to nothing": (lambda folder: (folder / "a.png").symlink_to(folder / "none"), "cannot read"),
    "folder with a suffix": (lambda folder: (folder / "a.png").mkdir(), "no images in"),
}


@pytest.mark.parametrize("kind", ODD_FILES)
def test_what_is_no_file_is_named_and_never_waited_for(kind, tmp_path):
    make, part = ODD_FILES[kind]
    make(tmp_path)
    with pytest.raises(UserError, match=part):
        ImageFolder(path=str(tmp_path)).load()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_named(tmp_path):
    RGB.save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(UserError, match=r"cannot read .*a\.png"):
        ImageFolder(path=str(tmp_path)).load()
