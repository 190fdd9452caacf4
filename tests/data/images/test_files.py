"""Picture folders and .npy arrays, against pixels known beforehand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from aloe_lightning.data import ImageFolder, ImageSet, NpyImages
from aloe_lightning.data.images.files import read_image
from aloe_lightning.data.images.source import MappedImages
from aloe_lightning.errors import UserError
from data.fakes import make_npy, make_pictures, noise


def hwc(images):
    return images.permute(0, 2, 3, 1).numpy()


def test_a_picture_of_32_by_32_comes_as_it_is(tmp_path):
    (pixels,) = noise(1, 1)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), pixels)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_long_picture_is_cut_to_its_middle(tmp_path, axis):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 96, 3), dtype=np.uint8)
    middle = pixels[:, 32:64]
    Image.fromarray(pixels if axis else pixels.transpose(1, 0, 2)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), middle if axis else middle.transpose(1, 0, 2))


def test_sixteen_bits_are_cut_to_the_upper_eight(tmp_path):
    ramp = (np.arange(1024, dtype=np.uint16) * 64).reshape(32, 32)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[..., 0], ramp >> 8)


def test_pixels_of_unknown_range_are_refused(tmp_path):
    Image.fromarray(np.zeros((32, 32), np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(UserError, match=r"a\.tiff.*convert it to 8 bits"):
        read_image(tmp_path / "a.tiff")


def test_a_photograph_taken_upright_stands_upright(tmp_path):
    (pixels,) = noise(1, 1)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to show
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(pixels, -1))


def test_linked_folders_are_followed_and_circles_end(tmp_path):
    make_pictures(tmp_path / "elsewhere", count=3)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "sub").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "set")
    assert len(ImageFolder(path=str(tmp_path / "set")).load()) == 3


def test_a_link_to_nowhere_is_named(tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(UserError, match=f"cannot read {tmp_path / 'a.png'}"):
        ImageFolder(path=str(tmp_path)).load()


@pytest.mark.parametrize(("size", "resized", "left", "top"), [((80, 40), (64, 32), 16, 0), ((20, 30), (32, 48), 0, 8)])
def test_the_short_side_becomes_32_bilinearly_with_antialiasing(tmp_path, size, resized, left, top):
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
    picture.save(tmp_path / "a.png")
    expected = picture.resize(resized, Image.Resampling.BILINEAR).crop((left, top, left + 32, top + 32))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.asarray(expected))


@pytest.mark.parametrize(
    ("mode", "colour", "rgb"),
    [("L", 90, (90, 90, 90)), ("RGBA", (10, 20, 30, 128), (10, 20, 30)), ("1", 1, (255, 255, 255))],
)
def test_other_colour_modes_become_rgb(tmp_path, mode, colour, rgb):
    Image.new(mode, (45, 37), colour).save(tmp_path / "a.png")
    assert np.unique(read_image(tmp_path / "a.png").reshape(-1, 3), axis=0).tolist() == [list(rgb)]


def test_a_folder_is_read_at_any_depth_in_the_order_of_its_paths(tmp_path):
    colours = {"b/2.PNG": 4, "a/z/1.png": 2, "c.bmp": 5, "a/9.jpg": 1, "b/10.jpeg": 3}
    for place, colour in colours.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 33), (colour * 10,) * 3).save(tmp_path / place)
    (tmp_path / "a" / "readme.txt").write_text("no picture")
    for hidden in ("a/._9.jpg", ".trash/1.png"):
        (tmp_path / hidden).parent.mkdir(exist_ok=True)
        (tmp_path / hidden).write_bytes(b"no picture")
    loaded = ImageFolder(path=str(tmp_path)).load()
    images = loaded.take(torch.arange(len(loaded)))
    assert images.shape == (5, 3, 32, 32)
    assert images.dtype == torch.uint8
    assert images.amin((1, 2, 3)).tolist() == [10, 20, 30, 40, 50]
    assert images.amax((1, 2, 3)).tolist() == [10, 20, 30, 40, 50]
    assert loaded.labels is None


def test_jpeg_pixels_are_the_decoders(tmp_path):
    Image.fromarray(noise(1, 3)[0]).save(tmp_path / "a.jpg", quality=50)
    loaded = ImageFolder(path=str(tmp_path)).load()
    np.testing.assert_array_equal(loaded.rows[0], np.asarray(Image.open(tmp_path / "a.jpg")))


def test_a_count_that_does_not_agree_is_told(tmp_path):
    make_pictures(tmp_path / "set", count=3)
    assert len(ImageFolder(path=str(tmp_path / "set"), count=3).load()) == 3
    with pytest.raises(UserError, match=f"{tmp_path / 'set'} has 3 images; this set has 4"):
        ImageFolder(path=str(tmp_path / "set"), count=4).load()


def test_a_missing_folder_and_an_empty_one_are_told_apart(tmp_path):
    with pytest.raises(UserError, match=f"no folder of images at {tmp_path / 'nowhere'}"):
        ImageFolder(path=str(tmp_path / "nowhere")).load()
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(UserError, match=rf"no images in {tmp_path}: looked for .*\.png"):
        ImageFolder(path=str(tmp_path)).load()


@pytest.mark.parametrize("kept", [0, 8, 60, 0.5])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_the_unreadable_picture_of_a_folder_is_named(tmp_path, suffix, kept):
    make_pictures(tmp_path, count=4)
    broken = tmp_path / f"broken.{suffix}"
    Image.fromarray(noise(1, 3)[0]).save(broken)
    content = broken.read_bytes()
    broken.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(UserError, match=f"cannot read the image {broken}"):
        ImageFolder(path=str(tmp_path)).load()


@settings(deadline=None)
@given(st.lists(st.integers(0, 6), max_size=12))
def test_mapped_images_come_in_the_order_asked_however_often(indices):
    rows = noise(7, 5)
    taken = MappedImages(rows).take(torch.tensor(indices, dtype=torch.int64))
    assert taken.shape == (len(indices), 3, 32, 32)
    np.testing.assert_array_equal(hwc(taken), rows[np.array(indices, dtype=int)])


def test_npy_images_are_mapped_and_not_read(tmp_path):
    make_npy(tmp_path / "o.npy", count=9, seed=8)
    source = NpyImages(path=str(tmp_path / "o.npy")).load()
    assert isinstance(source.rows, np.memmap)
    assert len(source) == 9
    np.testing.assert_array_equal(hwc(source.take(torch.tensor([8, 0, 8]))), noise(9, 8)[[8, 0, 8]])


def test_a_path_in_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    make_npy(tmp_path / "o.npy", count=2)
    make_pictures(tmp_path / "set", count=3)
    assert len(NpyImages(path="~/o.npy").load()) == 2
    assert len(ImageFolder(path="~/set").load()) == 3


@settings(deadline=None)
@given(count=st.integers(0, 12), size=st.integers(1, 12))
def test_a_subset_is_drawn_once_and_for_all_without_replacement_in_the_old_order(count, size):
    images = torch.arange(size, dtype=torch.uint8).view(-1, 1, 1, 1).expand(size, 3, 32, 32)
    whole = ImageSet(images, torch.arange(size) * 2)
    part = whole.subset(count)
    places = part.images[:, 0, 0, 0].tolist()
    assert len(places) == min(count, size)
    assert places == sorted(set(places))
    assert part.labels.tolist() == [2 * place for place in places]
    assert whole.subset(count).images.equal(part.images)
    assert whole.subset(None) is whole
