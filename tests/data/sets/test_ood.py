"""The named OOD test sets: which pictures, in which order, and how they become 32x32."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import MissingConfigException
from PIL import Image
from scipy.io import savemat

from aloe_lightning.cli.main import one_line
from aloe_lightning.config.validation import register_resolvers
from aloe_lightning.data import CIFAROOD, ISUN, SVHN, LSUNCrop, LSUNResize, Places365, Textures
from aloe_lightning.errors import UserError
from data.fakes import make_cifar10, make_cifar100, make_svhn, noise

PICTURES = {
    Textures: "dtd/images",
    Places365: "places365/test_subset",
    LSUNCrop: "LSUN/test",
    LSUNResize: "LSUN_resize/LSUN_resize",
    ISUN: "iSUN",
}
COUNTS = {Textures: 5_640, Places365: 10_000, LSUNCrop: 10_000, LSUNResize: 10_000, ISUN: 8_925, SVHN: 10_000}
register_resolvers()


def names(kinds):
    return {"argvalues": kinds, "ids": [kind.__name__ for kind in kinds]}


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def grey(level, width=32, height=32):
    return np.full((height, width, 3), level, np.uint8)


def hwc(images):
    return images.permute(0, 2, 3, 1).numpy()


def load(kind, root, **settings):
    return kind(root=str(root), **{"verify": False} | settings).load()


def told(kind, root, **settings):
    with pytest.raises(UserError) as error:
        load(kind, root, **settings)
    return str(error.value)


def published(monkeypatch, kind, count):
    """Let the card say another number of images."""
    monkeypatch.setattr(kind, "card", replace(kind.card, images={"test": count}))


# --- what the picture sets have in common ---


@pytest.mark.parametrize("kind", **names(PICTURES))
def test_pictures_of_32_by_32_come_as_they_are_in_the_order_of_their_paths_at_any_depth(tmp_path, kind):
    order = ["10.png", "9.png", "a/z/1.png", "a/z.png", "b/0.png"]
    for place in (3, 0, 4, 2, 1):
        write(tmp_path / PICTURES[kind] / order[place], noise(5, 7)[place])
    loaded = load(kind, tmp_path)
    np.testing.assert_array_equal(loaded.rows, noise(5, 7))
    assert loaded.labels is None


@pytest.mark.parametrize("kind", **names(PICTURES))
def test_hidden_files_and_what_is_no_picture_are_no_images(tmp_path, kind):
    folder = tmp_path / PICTURES[kind]
    write(folder / "part" / "x.png", grey(5))
    for junk in ("part/._x.png", "part/._x.jpeg", ".DS_Store", ".AppleDouble/x.png", "part/x.txt"):
        (folder / junk).parent.mkdir(exist_ok=True)
        (folder / junk).write_bytes(b"no picture")
    np.testing.assert_array_equal(load(kind, tmp_path).rows, [grey(5)])


@pytest.mark.parametrize("kind", **names(PICTURES))
@pytest.mark.parametrize("wrong", [-1, 1])
def test_another_number_of_pictures_is_told_with_both_numbers_if_verified(tmp_path, monkeypatch, kind, wrong):
    for index in range(3):
        write(tmp_path / PICTURES[kind] / f"{index}.png", grey(index))
    assert f"3 images where the official set has {COUNTS[kind]:,}" in told(kind, tmp_path, verify=True)
    published(monkeypatch, kind, 3 + wrong)
    message = told(kind, tmp_path, verify=True)
    assert f"{kind.card.title} in {tmp_path}: 3 images where the official set has {3 + wrong}" in message
    assert "data.verify=false" in message
    assert len(load(kind, tmp_path)) == 3
    published(monkeypatch, kind, 3)
    assert len(load(kind, tmp_path, verify=True)) == 3


@pytest.mark.parametrize("kind", **names([*PICTURES, SVHN]))
@pytest.mark.parametrize("verify", [True, False])
def test_a_missing_set_is_told_with_the_root_and_what_fetches_it(tmp_path, kind, verify):
    told_so = told(kind, tmp_path, verify=verify)
    places = " nor ".join(layout[0] for layout in kind.card.layouts)
    command = f"`python -m aloe_lightning.data prepare {kind.card.name} --root {tmp_path}` fetches it"
    assert told_so == f"{kind.card.title} is not there: no {places} in {tmp_path}: {command}, or set data.root"


@pytest.mark.parametrize("kind", **names(PICTURES))
def test_an_empty_folder_is_told(tmp_path, kind):
    (tmp_path / PICTURES[kind]).mkdir(parents=True)
    assert f"{kind.card.title} is not there: no {PICTURES[kind]}" in told(kind, tmp_path)
    (tmp_path / PICTURES[kind] / "readme.txt").write_text("no picture")
    assert f"{kind.card.title}: no images in {tmp_path / PICTURES[kind]}: remove it, then `python -m" in told(
        kind, tmp_path, verify=False
    )


@pytest.mark.parametrize("kind", **names(PICTURES))
def test_a_broken_picture_is_named(tmp_path, kind):
    write(tmp_path / PICTURES[kind] / "a.png", grey(1))
    file = tmp_path / PICTURES[kind] / "b.png"
    file.write_bytes((tmp_path / PICTURES[kind] / "a.png").read_bytes()[:40])
    assert told(kind, tmp_path).startswith(f"cannot read the image {file} ")


def test_a_root_in_the_home_folder_is_found_and_told_in_full(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "sets" / "iSUN" / "a.png", grey(7))
    np.testing.assert_array_equal(load(ISUN, "~/sets").rows, [grey(7)])
    assert f"not there: no iSUN in {tmp_path}/other: " in told(ISUN, "~/other")


# --- each ---


@pytest.mark.parametrize("kind", **names([Textures, Places365, LSUNResize, ISUN]))
def test_a_large_picture_has_its_short_side_resized_to_32_and_its_middle_taken(tmp_path, kind):
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (50, 90, 3), dtype=np.uint8))
    write(tmp_path / PICTURES[kind] / "a.png", np.asarray(picture))
    expected = picture.resize((57, 32), Image.Resampling.BILINEAR).crop((12, 0, 44, 32))
    np.testing.assert_array_equal(load(kind, tmp_path).rows, [np.asarray(expected)])


@pytest.mark.parametrize(("width", "height", "left", "top"), [(36, 36, 2, 2), (40, 32, 4, 0), (64, 48, 16, 8)])
def test_lsun_crop_is_cut_and_never_resized(tmp_path, width, height, left, top):
    pixels = np.random.default_rng(2).integers(0, 256, (height, width, 3), dtype=np.uint8)
    write(tmp_path / "LSUN" / "test" / "a.png", pixels)
    write(tmp_path / "LSUN" / "test" / "b.png", noise(1, 3)[0])
    expected = [pixels[top : top + 32, left : left + 32], noise(1, 3)[0]]
    np.testing.assert_array_equal(load(LSUNCrop, tmp_path).rows, expected)


def test_isun_is_read_below_its_patches_without_the_archives_junk(tmp_path):
    patches = tmp_path / "iSUN" / "iSUN_patches"
    for index in range(3):
        write(patches / f"{index}.jpeg", grey(100 + index))
        (patches / f"._{index}.jpeg").write_bytes(b"\0\5\26\7")
    np.testing.assert_array_equal(load(ISUN, tmp_path).rows, [grey(100), grey(101), grey(102)])


def test_textures_are_read_class_after_class(tmp_path):
    for level, name in enumerate(["banded/banded_0002", "banded/banded_0010", "dotted/dotted_0001"]):
        write(tmp_path / "dtd" / "images" / f"{name}.png", grey(level, 300, 400))
    (tmp_path / "dtd" / "labels").mkdir()
    write(tmp_path / "dtd" / "labels" / "x.png", grey(99))
    assert load(Textures, tmp_path).rows[:, 16, 16, 0].tolist() == [0, 1, 2]


def frozen(folder, size):
    """Levels of the pictures that stay: those whose names have the smallest sums, in the order of their paths."""
    left = {file: int(hashlib.sha256(file.name.encode()).hexdigest(), 16) for file in folder.rglob("*.png")}
    while len(left) > size:
        left.pop(max(left, key=left.__getitem__))
    return [np.asarray(Image.open(file))[0, 0, 0].item() for file in sorted(left)]


@pytest.mark.parametrize("folder", ["val_256", "test_256"])
@pytest.mark.parametrize("size", [1, 8, 40])
def test_of_all_scenes_the_sample_frozen_by_their_names_is_taken(tmp_path, monkeypatch, folder, size):
    published(monkeypatch, Places365, size)
    place = tmp_path / "places365" / folder
    for number in range(40):
        write(place / f"Places365_val_{number:08d}.png", grey(number))
    loaded = load(Places365, tmp_path, verify=True)
    levels = loaded.rows[:, 0, 0, 0].tolist()
    assert levels == frozen(place, size)
    assert len(levels) == size
    assert (levels == list(range(size))) == (size == 40)  # the first by name are no sample


def test_the_frozen_sample_does_not_depend_on_the_pictures_or_the_place(tmp_path, monkeypatch):
    published(monkeypatch, Places365, 5)
    for root, offset in (("one", 0), ("two", 100)):
        for number in range(30):
            write(tmp_path / root / "places365" / "val_256" / f"{number:03d}.png", grey(number + offset))
    one, two = (load(Places365, tmp_path / root, verify=True).rows[:, 0, 0, 0].tolist() for root in ("one", "two"))
    assert two == [level + 100 for level in one]


def test_too_few_scenes_for_the_sample_are_told(tmp_path):
    write(tmp_path / "places365" / "val_256" / "a.png", grey(1))
    assert "1 images where the official set has 10,000" in told(Places365, tmp_path, verify=True)
    assert len(load(Places365, tmp_path)) == 1


def test_a_subset_that_stands_there_is_preferred_and_used_whole(tmp_path, monkeypatch):
    for folder, level in (("test_256", 1), ("val_256", 2), ("test_subset/images", 3)):
        for number in range(4):
            write(tmp_path / "places365" / folder / f"{number}.png", grey(10 * level + number))
    published(monkeypatch, Places365, 2)
    assert load(Places365, tmp_path).rows[:, 0, 0, 0].tolist() == [30, 31, 32, 33]
    assert "4 images where the official set has 2" in told(Places365, tmp_path, verify=True)


# --- SVHN ---


def svhn_file(root):
    (root / "svhn").mkdir(parents=True, exist_ok=True)
    return root / "svhn" / "test_32x32.mat"


def test_svhn_takes_the_first_thousand_of_each_class_in_the_order_of_the_file(tmp_path):
    labels = np.full(1203, 3, dtype=np.uint8)
    labels[::300] = 10  # 0, 300, 600, 900 and 1200 are zeros, which the file calls 10
    images = np.zeros((len(labels), 32, 32, 3), dtype=np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1] = np.arange(len(labels)) // 256, np.arange(len(labels)) % 256
    savemat(svhn_file(tmp_path), {"X": images.transpose(1, 2, 3, 0), "y": labels[:, None]})
    loaded = load(SVHN, tmp_path)
    threes = [index for index in range(1203) if index % 300][:1000]
    expected = sorted([*threes, 0, 300, 600, 900, 1200])
    assert (loaded.images[:, 0, 0, 0].int() * 256 + loaded.images[:, 1, 0, 0]).tolist() == expected
    assert loaded.labels.tolist() == [3 if index % 300 else 0 for index in expected]


def test_svhn_pixels_are_the_files(tmp_path):
    make_svhn(svhn_file(tmp_path), labels=(1, 2, 10, 5), seed=4)
    loaded = load(SVHN, tmp_path)
    np.testing.assert_array_equal(hwc(loaded.images), noise(4, 4))
    assert loaded.labels.tolist() == [1, 2, 0, 5]


def test_svhn_of_another_sum_is_told_with_both_sums(tmp_path):
    make_svhn(svhn_file(tmp_path))
    message = told(SVHN, tmp_path, verify=True)
    assert hashlib.md5(svhn_file(tmp_path).read_bytes()).hexdigest() in message
    assert "eb5a983be6a315427106f1b164d9cef3" in message


def test_svhn_of_another_number_of_images_is_told_if_verified(tmp_path, monkeypatch):
    make_svhn(svhn_file(tmp_path))
    (archive,) = SVHN.card.archives
    official = replace(archive, md5=hashlib.md5(svhn_file(tmp_path).read_bytes()).hexdigest())
    monkeypatch.setattr(SVHN, "card", replace(SVHN.card, archives=(official,)))
    assert "4 images where the official set has 10,000" in told(SVHN, tmp_path, verify=True)
    published(monkeypatch, SVHN, 4)
    np.testing.assert_array_equal(hwc(load(SVHN, tmp_path, verify=True).images), noise(4, 400))


@pytest.mark.parametrize("kept", [0, 100, 0.5])
def test_a_truncated_svhn_is_named(tmp_path, kept):
    file = svhn_file(tmp_path)
    make_svhn(file)
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    assert told(SVHN, tmp_path).startswith(f"cannot read {file}: truncated or not SVHN's .mat")


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
    message = told(SVHN, tmp_path)
    assert message.startswith(f"cannot read {svhn_file(tmp_path)}: truncated or not SVHN's .mat")


# --- CIFAR ---


@pytest.mark.parametrize(("classes", "make", "seed"), [(10, make_cifar10, 6), (100, make_cifar100, 102)])
def test_the_test_images_of_cifar_serve_elsewhere_as_ood(tmp_path, classes, make, seed):
    make(tmp_path)
    np.testing.assert_array_equal(hwc(load(CIFAROOD, tmp_path, num_classes=classes).images), noise(6, seed))


def test_cifar_as_ood_is_verified_and_missed_as_cifar_is(tmp_path):
    assert f"prepare cifar10 --root {tmp_path}` fetches it" in told(CIFAROOD, tmp_path)
    make_cifar10(tmp_path)
    assert "expected 40351d587109b95175f43aff81a1287e" in told(CIFAROOD, tmp_path, verify=True)


# --- ood=paper ---

OF_ALL = {"textures": Textures, "places365": Places365, "lsun_c": LSUNCrop, "lsun_r": LSUNResize, "isun": ISUN}


def composed(*overrides):
    GlobalHydra.instance().clear()
    with initialize_config_module("aloe_lightning.conf", version_base="1.3"):
        return compose("config", overrides=list(overrides))


@pytest.mark.parametrize(
    ("data", "first"), [("cifar10", {"svhn": SVHN}), ("cifar100", {"svhn": SVHN}), ("gtsrb", {"cifar10": CIFAROOD})]
)
def test_the_papers_ood_sets_are_those_of_the_data_and_share_its_root(data, first):
    ood = composed(f"data={data}", "ood=paper", "data.root=/sets", "data.verify=false").ood
    wanted = first | OF_ALL
    assert {name: node._target_ for name, node in ood.items()} == {
        name: f"aloe_lightning.data.{kind.__name__}" for name, kind in wanted.items()
    }
    assert {(node.root, node.verify) for node in ood.values()} == {("/sets", False)}
    assert [node.get("num_classes") for node in ood.values() if "num_classes" in node] == [10] * (data == "gtsrb")


@pytest.mark.parametrize("data", ["folder", "npz", "demo"])
def test_the_papers_ood_sets_of_data_that_the_paper_has_not_are_told(data):
    with pytest.raises(MissingConfigException) as error:
        composed(f"data={data}", "ood=paper")
    assert one_line(error.value).startswith(
        f"In 'ood/paper': Could not find 'ood/paper_for/{data}'; "
        "Available options in 'ood/paper_for': cifar10; cifar100; gtsrb"
    )
