"""The named OOD test sets: which pictures, in which order, and how they become 32x32."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf
from PIL import Image

from aloe_lightning.cli.mistakes import one_line
from aloe_lightning.config.build import build
from aloe_lightning.config.resolvers import register_resolvers
from aloe_lightning.data import SVHN, PictureSet, catalogue
from aloe_lightning.data.catalogue import cards, read_card
from aloe_lightning.data.download.check import check
from aloe_lightning.errors import UserError
from data.fakes import noise

PICTURES = {
    "textures": "dtd/images",
    "places365": "places365/test_subset",
    "lsun_c": "LSUN/test",
    "lsun_r": "LSUN_resize/LSUN_resize",
    "isun": "iSUN",
}
COUNTS = {"textures": 5_640, "places365": 10_000, "lsun_c": 10_000, "lsun_r": 10_000, "isun": 8_925}
CATALOGUE = Path(catalogue.__file__).parent
register_resolvers()


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def grey(level, width=32, height=32):
    return np.full((height, width, 3), level, np.uint8)


def hwc(images):
    return images.permute(0, 2, 3, 1).numpy()


def load(name, root, **settings):
    settings = {"root": str(root), "verify": False} | settings
    return (SVHN(**settings) if name == "svhn" else PictureSet(dataset=name, **settings)).load()


def message_of(name, root, **settings):
    with pytest.raises(UserError) as error:
        load(name, root, **settings)
    return str(error.value)


def published(monkeypatch, name, count):
    """Let the card state another number of images."""
    monkeypatch.setitem(cards(), name, replace(cards()[name], images={"test": count}))


# --- what the picture sets have in common ---


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_of_32_by_32_come_as_they_are_in_the_order_of_their_paths_at_any_depth(tmp_path, name):
    order = ["10.png", "9.png", "a/z/1.png", "a/z.png", "b/0.png"]
    for place in (3, 0, 4, 2, 1):
        write(tmp_path / PICTURES[name] / order[place], noise(5, 7)[place])
    loaded = load(name, tmp_path)
    np.testing.assert_array_equal(loaded.rows, noise(5, 7))
    assert loaded.labels is None


@pytest.mark.parametrize("name", PICTURES)
def test_hidden_files_and_what_is_no_picture_are_no_images(tmp_path, name):
    folder = tmp_path / PICTURES[name]
    write(folder / "part" / "x.png", grey(5))
    for junk in ("part/._x.png", "part/._x.jpeg", ".DS_Store", ".AppleDouble/x.png", "part/x.txt"):
        (folder / junk).parent.mkdir(exist_ok=True)
        (folder / junk).write_bytes(b"no picture")
    np.testing.assert_array_equal(load(name, tmp_path).rows, [grey(5)])


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("wrong", [-1, 1])
def test_another_number_of_pictures_is_told_with_both_numbers_if_verified(tmp_path, monkeypatch, name, wrong):
    for index in range(3):
        write(tmp_path / PICTURES[name] / f"{index}.png", grey(index))
    assert f"3 images where the official set has {COUNTS[name]:,}" in message_of(name, tmp_path, verify=True)
    published(monkeypatch, name, 3 + wrong)
    message = message_of(name, tmp_path, verify=True)
    assert f"{cards()[name].title} in {tmp_path}: 3 images where the official set has {3 + wrong}" in message
    assert "paths.verify=false" in message
    assert len(load(name, tmp_path)) == 3
    published(monkeypatch, name, 3)
    assert len(load(name, tmp_path, verify=True)) == 3


@pytest.mark.parametrize("name", [*PICTURES, "svhn"])
@pytest.mark.parametrize("verify", [True, False])
def test_a_missing_set_is_told_with_the_root_and_what_fetches_it(tmp_path, name, verify):
    message = message_of(name, tmp_path, verify=verify)
    places = " nor ".join(layout[0] for layout in cards()[name].layouts)
    command = f"`python -m aloe_lightning.data prepare {cards()[name].name} --root {tmp_path}` downloads it"
    assert message == f"{cards()[name].title} is not there: no {places} in {tmp_path}: {command}, or set paths.data"


@pytest.mark.parametrize("name", PICTURES)
def test_an_empty_folder_is_message_of(tmp_path, name):
    (tmp_path / PICTURES[name]).mkdir(parents=True)
    assert f"{cards()[name].title} is not there: no {PICTURES[name]}" in message_of(name, tmp_path)
    (tmp_path / PICTURES[name] / "readme.txt").write_text("no picture")
    assert f"{cards()[name].title}: no images in {tmp_path / PICTURES[name]}: remove it, then `python -m" in message_of(
        name, tmp_path, verify=False
    )


@pytest.mark.parametrize("name", PICTURES)
def test_a_broken_picture_is_named(tmp_path, name):
    write(tmp_path / PICTURES[name] / "a.png", grey(1))
    file = tmp_path / PICTURES[name] / "b.png"
    file.write_bytes((tmp_path / PICTURES[name] / "a.png").read_bytes()[:40])
    assert message_of(name, tmp_path).startswith(f"cannot read the image {file} ")


def test_a_root_in_the_home_folder_is_found_and_told_in_full(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "sets" / "iSUN" / "a.png", grey(7))
    np.testing.assert_array_equal(load("isun", "~/sets").rows, [grey(7)])
    assert f"not there: no iSUN in {tmp_path}/other: " in message_of("isun", "~/other")


# --- each ---


@pytest.mark.parametrize("name", ["textures", "places365", "lsun_r", "isun"])
def test_a_large_picture_has_its_short_side_resized_to_32_and_its_middle_taken(tmp_path, name):
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (50, 90, 3), dtype=np.uint8))
    write(tmp_path / PICTURES[name] / "a.png", np.asarray(picture))
    expected = picture.resize((57, 32), Image.Resampling.BILINEAR).crop((12, 0, 44, 32))
    np.testing.assert_array_equal(load(name, tmp_path).rows, [np.asarray(expected)])


@pytest.mark.parametrize(("width", "height", "left", "top"), [(36, 36, 2, 2), (40, 32, 4, 0), (64, 48, 16, 8)])
def test_lsun_crop_is_cut_and_never_resized(tmp_path, width, height, left, top):
    pixels = np.random.default_rng(2).integers(0, 256, (height, width, 3), dtype=np.uint8)
    write(tmp_path / "LSUN" / "test" / "a.png", pixels)
    write(tmp_path / "LSUN" / "test" / "b.png", noise(1, 3)[0])
    expected = [pixels[top : top + 32, left : left + 32], noise(1, 3)[0]]
    np.testing.assert_array_equal(load("lsun_c", tmp_path).rows, expected)


def test_isun_is_read_below_its_patches_without_the_archives_junk(tmp_path):
    patches = tmp_path / "iSUN" / "iSUN_patches"
    for index in range(3):
        write(patches / f"{index}.jpeg", grey(100 + index))
        (patches / f"._{index}.jpeg").write_bytes(b"\0\5\26\7")
    np.testing.assert_array_equal(load("isun", tmp_path).rows, [grey(100), grey(101), grey(102)])


def test_textures_are_read_class_after_class(tmp_path):
    for level, name in enumerate(["banded/banded_0002", "banded/banded_0010", "dotted/dotted_0001"]):
        write(tmp_path / "dtd" / "images" / f"{name}.png", grey(level, 300, 400))
    (tmp_path / "dtd" / "labels").mkdir()
    write(tmp_path / "dtd" / "labels" / "x.png", grey(99))
    assert load("textures", tmp_path).rows[:, 16, 16, 0].tolist() == [0, 1, 2]


def frozen(folder, size):
    """Levels of the pictures that stay: those whose names have the smallest sums, in the order of their paths."""
    left = {file: int(hashlib.sha256(file.name.encode()).hexdigest(), 16) for file in folder.rglob("*.png")}
    while len(left) > size:
        left.pop(max(left, key=left.__getitem__))
    return [np.asarray(Image.open(file))[0, 0, 0].item() for file in sorted(left)]


@pytest.mark.parametrize("folder", ["val_256", "test_256"])
@pytest.mark.parametrize("size", [1, 8, 40])
def test_of_all_scenes_the_sample_frozen_by_their_names_is_taken(tmp_path, monkeypatch, folder, size):
    published(monkeypatch, "places365", size)
    place = tmp_path / "places365" / folder
    for number in range(40):
        write(place / f"Places365_val_{number:08d}.png", grey(number))
    loaded = load("places365", tmp_path, verify=True)
    levels = loaded.rows[:, 0, 0, 0].tolist()
    assert levels == frozen(place, size)
    assert len(levels) == size
    assert (levels == list(range(size))) == (size == 40)  # the first by name are no sample


def test_the_frozen_sample_does_not_depend_on_the_pictures_or_the_place(tmp_path, monkeypatch):
    published(monkeypatch, "places365", 5)
    for root, offset in (("one", 0), ("two", 100)):
        for number in range(30):
            write(tmp_path / root / "places365" / "val_256" / f"{number:03d}.png", grey(number + offset))
    one, two = (load("places365", tmp_path / root, verify=True).rows[:, 0, 0, 0].tolist() for root in ("one", "two"))
    assert two == [level + 100 for level in one]


def test_too_few_scenes_for_the_sample_are_message_of(tmp_path):
    write(tmp_path / "places365" / "val_256" / "a.png", grey(9))
    assert "1 images where the official set has 10,000" in message_of("places365", tmp_path, verify=True)
    assert len(load("places365", tmp_path)) == 1


def test_a_subset_that_stands_there_is_preferred_and_used_whole(tmp_path, monkeypatch):
    for folder, level in (("test_256", 1), ("val_256", 2), ("test_subset/images", 3)):
        for number in range(4):
            write(tmp_path / "places365" / folder / f"{number}.png", grey(10 * level + number))
    published(monkeypatch, "places365", 2)
    assert load("places365", tmp_path).rows[:, 0, 0, 0].tolist() == [30, 31, 32, 33]
    assert "4 images where the official set has 2" in message_of("places365", tmp_path, verify=True)


# --- ood=paper ---


def composed(*overrides):
    GlobalHydra.instance().clear()
    with initialize_config_module("aloe_lightning.conf", version_base="1.3"):
        return compose("config", overrides=list(overrides))


@pytest.mark.parametrize(
    ("data", "first"),
    [("cifar10", ("svhn", "SVHN")), ("cifar100", ("svhn", "SVHN")), ("gtsrb", ("cifar10", "CIFAR10Test"))],
)
def test_the_papers_ood_sets_are_those_of_the_data(data, first):
    ood = composed(f"data={data}", "ood=paper").ood
    nodes = {name: {"_target_": "aloe_lightning.data.PictureSet", "dataset": name} for name in PICTURES}
    assert ood == {first[0]: {"_target_": f"aloe_lightning.data.{first[1]}"}, **nodes}


def test_a_set_that_is_no_set_of_pictures_is_refused_and_a_typo_answered(tmp_path):
    with pytest.raises(UserError, match="svhn is not an OOD test set of picture files: it is read by SVHN"):
        PictureSet(dataset="svhn", root=str(tmp_path))
    with pytest.raises(UserError, match="no data set called 'texture', did you mean 'textures'"):
        PictureSet(dataset="texture", root=str(tmp_path))


def test_another_set_of_pictures_is_a_card_and_a_node(tmp_path, monkeypatch):
    (tmp_path / "ood").mkdir()
    text = (CATALOGUE / "ood" / "isun.yaml").read_text()
    (tmp_path / "ood" / "patches.yaml").write_text(text.replace("iSUN", "patches").replace("8_925", "3"))
    monkeypatch.setitem(cards(), "patches", read_card(tmp_path / "ood" / "patches.yaml"))
    for level in range(3):
        write(tmp_path / "patches" / f"{level}.png", grey(level))
    node = OmegaConf.create({"_target_": "aloe_lightning.data.PictureSet", "dataset": "patches"})
    loaded = build(node, "ood.patches", root=str(tmp_path), verify=True).load()
    assert loaded.rows[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert check("patches", tmp_path).state == "complete"


@pytest.mark.parametrize("data", ["folder", "npz", "demo"])
def test_the_papers_ood_sets_of_data_that_the_paper_has_not_are_message_of(data):
    with pytest.raises(MissingConfigException) as error:
        composed(f"data={data}", "ood=paper")
    assert one_line(error.value).startswith(
        f"In 'ood/paper': Could not find 'ood/paper_for/{data}'; "
        "Available options in 'ood/paper_for': cifar10; cifar100; gtsrb"
    )
