"""Data of one's own: what is found in them against slow loops, what is refused, and whole runs on them."""

import json
import os
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from aloe_lightning.config.build import build_net
from aloe_lightning.data import LabelledArrays, LabelledFolder
from aloe_lightning.errors import UserError
from aloe_lightning.evaluation.records import read_records
from data.fakes import noise

CLASSES = ["ant", "bee", "cat", "dog", "elk", "fox", "gnu"]


def picture(path, seed, size=(45, 60)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels // (1 + np.arange(3, dtype=np.uint8))).save(path)  # colours differ in mean and spread


def make_folder(folder, classes=CLASSES, count=3, seed=0):
    """Pictures of many sizes, PNG and JPEG in turn, some a folder deeper, beside what is no picture."""
    for label, name in enumerate(classes):
        for index in range(count):
            place = folder / name / ("deep/er" if index == 1 else "") / f"{index}.{('png', 'JPG', 'jpeg')[index % 3]}"
            picture(place, seed + 100 * label + index, (20 + 9 * label, 32 + 5 * index))
        (folder / name / "notes.txt").write_text("no picture")
    for hidden in (f"{classes[0]}/.hidden.png", f"{classes[0]}/.thumbs/0.png", ".git/0.png"):
        picture(folder / hidden, 1)
    picture(folder / "beside.png", 1)
    return folder


def folder_data(train, test=None, **more):
    return LabelledFolder(train=str(train), test=str(test or train), **more)


def array_data(train, test=None, **more):
    return LabelledArrays(train=str(train), test=str(test or train), **more)


def write_arrays(path, images, labels, **more):
    np.savez(path, images=images, labels=labels, **more)
    return path


def fitted(path):
    """Short side to 32, bilinear with antialiasing; middle cropped."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    width, height = image.size
    if (width, height) != (32, 32):
        short = min(width, height)
        image = image.resize((32 * width // short, 32 * height // short), Image.Resampling.BILINEAR)
        left, top = round((image.width - 32) / 2), round((image.height - 32) / 2)
        image = image.crop((left, top, left + 32, top + 32))
    return np.asarray(image)


def hwc(images):
    return images.take(torch.arange(len(images))).permute(0, 2, 3, 1).numpy()


def slow_statistics(pixels):
    """float64, channel by channel: means and standard deviations of uint8 (N, 32, 32, 3) in [0, 1]."""
    means, deviations = [], []
    for channel in range(3):
        values = [float(value) / 255 for value in pixels[..., channel].ravel()]
        mean = sum(values) / len(values)
        means.append(mean)
        deviations.append((sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5)
    return means, deviations


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("own") / "train")


@pytest.fixture
def own(tmp_path):
    """Three classes of pictures, to change."""
    return make_folder(tmp_path / "own", classes=CLASSES[:3])


@pytest.fixture
def no_decoding(monkeypatch):
    """From now on pictures may come from the cache only."""

    def forbid():
        def refuse(*_):
            raise AssertionError("decoded again")

        monkeypatch.setattr("aloe_lightning.data.images.files.read_image", refuse)

    return forbid


# --- folders ---


def test_every_class_folder_is_read_at_any_depth_and_fitted(train):
    images = folder_data(train).train_set()
    files = [train / name / place for name in CLASSES for place in ("0.png", "2.jpeg", "deep/er/1.JPG")]
    assert images.labels.tolist() == [label for label in range(7) for _ in range(3)]
    assert images.labels.dtype == torch.int64
    np.testing.assert_array_equal(hwc(images), np.stack([fitted(file) for file in files]))


def test_testing_may_lack_classes_and_keeps_the_labels_of_training(train, tmp_path):
    test = make_folder(tmp_path / "test", classes=["dog", "bee", "gnu"], count=2, seed=5000)
    (test / "fox").mkdir()
    images = folder_data(train, test).test_set()
    assert images.labels.tolist() == [1, 1, 3, 3, 6, 6]
    files = [test / name / place for name in ("bee", "dog", "gnu") for place in ("0.png", "deep/er/1.JPG")]
    np.testing.assert_array_equal(hwc(images), np.stack([fitted(file) for file in files]))


def test_training_and_testing_may_be_one_folder(own):
    data = folder_data(own, f"{own}/../{own.name}")
    np.testing.assert_array_equal(hwc(data.test_set()), hwc(data.train_set()))
    assert folder_data(own).test_set().labels.equal(data.train_set().labels)


def test_folders_in_the_home_folder_are_found(own, monkeypatch):
    monkeypatch.setenv("HOME", str(own.parent))
    assert len(folder_data("~/own").train_set()) == 9


def test_pictures_are_decoded_once_and_anew_when_one_has_changed(own, no_decoding):
    first = hwc(folder_data(own).train_set())
    no_decoding()
    np.testing.assert_array_equal(hwc(folder_data(own).train_set()), first)
    picture(own / "bee" / "0.png", 77, (40, 40))
    with pytest.raises(AssertionError, match="decoded again"):
        folder_data(own).train_set()


def test_a_changed_picture_is_seen(own):
    first = hwc(folder_data(own).train_set())
    picture(own / "bee" / "0.png", 77, (40, 40))
    second = hwc(folder_data(own).train_set())
    assert (first != second).any((1, 2, 3)).tolist() == [False] * 3 + [True] + [False] * 5
    np.testing.assert_array_equal(second[3], fitted(own / "bee" / "0.png"))


def test_classes_that_training_has_not_are_refused_with_what_they_are(own, tmp_path):
    test = make_folder(tmp_path / "test", classes=["bee", "yak", "zebra"], count=1)
    told = f"data.test: yak, zebra in {test} are no classes of data.train={own}; .*OOD: +ood.yak={test / 'yak'}"
    with pytest.raises(UserError, match=re.escape(told).replace(r"\.\*", ".*")):
        folder_data(own, test).test_set()


@pytest.mark.parametrize(("key", "method"), [("data.train", "train_set"), ("data.test", "test_set")])
def test_folders_that_are_missing_or_hold_no_classes_are_told_with_their_key(own, tmp_path, key, method):
    def data(path):
        return folder_data(path, own) if key == "data.train" else folder_data(own, path)

    with pytest.raises(UserError, match=f"^{key}: no folder at {tmp_path / 'nowhere'}$"):
        getattr(data(tmp_path / "nowhere"), method)()
    flat = tmp_path / "flat"
    picture(flat / "0.png", 1)
    picture(flat / ".hidden" / "0.png", 1)
    with pytest.raises(UserError, match=f"^{key}: {flat} has no sub-folders: put the pictures of each class into"):
        getattr(data(flat), method)()
    (tmp_path / "empty" / "bee").mkdir(parents=True)
    with pytest.raises(UserError, match=f"^{key}: no images in .*{tmp_path / 'empty' / 'bee'}"):
        getattr(data(tmp_path / "empty"), method)()


def test_a_class_without_training_pictures_is_named(own):
    (own / "yak").mkdir()
    (own / "yak" / "notes.txt").write_text("none yet")
    with pytest.raises(UserError, match=f"^data.train: no images in {own / 'yak'}$"):
        folder_data(own).train_set()


def test_a_broken_picture_is_named(own):
    broken = own / "cat" / "deep" / "er" / "1.JPG"
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(UserError, match=f"cannot read the image {broken}"):
        folder_data(own).train_set()


# --- arrays ---


def test_arrays_of_32_by_32_are_read_as_they_are(tmp_path):
    for kind in (np.int64, np.uint8, np.int32):
        labels = np.array([6, 0, 3, 0, 2], kind)
        images = array_data(write_arrays(tmp_path / "a.npz", noise(5, 1), labels, more=np.ones(3))).train_set()
        np.testing.assert_array_equal(hwc(images), noise(5, 1))
        assert images.labels.tolist() == [6, 0, 3, 0, 2]
        assert images.labels.dtype == torch.int64


@pytest.mark.parametrize(
    ("size", "crop"), [((64, 96), (0, 8)), ((96, 64), (8, 0)), ((50, 50), (0, 0)), ((16, 16), (0, 0))]
)
def test_arrays_of_another_size_are_fitted_as_pictures_are(tmp_path, size, crop):
    pixels = np.random.default_rng(1).integers(0, 256, (3, *size, 3), dtype=np.uint8)
    images = hwc(array_data(write_arrays(tmp_path / "a.npz", pixels, [0, 1, 2])).train_set())
    for found, image in zip(images, pixels, strict=True):
        picture = Image.fromarray(image)
        small = picture.resize((32 + 2 * crop[1], 32 + 2 * crop[0]), Image.Resampling.BILINEAR)
        expected = np.asarray(small)[crop[0] : crop[0] + 32, crop[1] : crop[1] + 32]
        np.testing.assert_allclose(found.astype(int), expected.astype(int), atol=1)  # two implementations round


def test_a_test_array_may_lack_classes_but_have_none_of_its_own(tmp_path):
    train = write_arrays(tmp_path / "train.npz", noise(4, 1), [0, 1, 2, 3])
    test = write_arrays(tmp_path / "test.npz", noise(2, 2), [2, 0])
    assert array_data(train, test).test_set().labels.tolist() == [2, 0]
    with pytest.raises(UserError, match=f"data.test={train} has class 3, which data.train has not"):
        array_data(test, train).test_set()


OBJECTS = np.array([{"code": 1}] * 4, dtype=object)


@pytest.mark.parametrize(
    ("images", "labels", "told"),
    [
        (noise(4, 1) / 255, [0, 1, 2, 3], r"images are float64 \(4, 32, 32, 3\)"),
        (noise(4, 1).astype(np.int16), [0, 1, 2, 3], "images are int16"),
        (noise(4, 1).transpose(0, 3, 1, 2), [0, 1, 2, 3], r"images are uint8 \(4, 3, 32, 32\); .* \(N, H, W, 3\)"),
        (noise(4, 1)[..., 0], [0, 1, 2, 3], r"images are uint8 \(4, 32, 32\)"),
        (noise(4, 1)[:0], [], r"images are uint8 \(0, 32, 32, 3\)"),
        (noise(4, 1)[:, :0], [0, 1, 2, 3], r"images are uint8 \(4, 0, 32, 3\)"),
        (OBJECTS, [0, 1, 2, 3], "it must have the arrays `images` and `labels`"),
        (noise(4, 1), OBJECTS, "it must have the arrays `images` and `labels`"),
        (noise(4, 1), [0, 1, 2, -1], r"labels are in -1\.\.2"),
        (noise(4, 1), [0.0, 1.0, 2.0, 3.0], "labels are float64"),
        (noise(4, 1), ["ant", "bee", "cat", "dog"], "labels are <U3"),
        (noise(4, 1), [True, False, True, False], "labels are bool"),
        (noise(4, 1), [0, 1, 2], "4 images, but 3 labels"),
        (noise(4, 1), [[0], [1], [2], [3]], r"labels are int64 \(4, 1\); they must be whole numbers from 0"),
    ],
)
def test_arrays_of_another_kind_are_told_with_what_they_are(tmp_path, images, labels, told):
    file = write_arrays(tmp_path / "a.npz", images, labels)
    with pytest.raises(UserError, match=f"{file}: .*{told}"):
        array_data(file).train_set()


def test_an_archive_that_is_missing_damaged_or_another_is_named(tmp_path):
    file = tmp_path / "a.npz"
    with pytest.raises(UserError, match=f"no arrays at {file}: correct data.train and data.test"):
        array_data(file).train_set()
    whole = write_arrays(file, noise(4, 1), [0, 1, 2, 3]).read_bytes()
    contents = [b"", b"garbage", whole[:200], whole[: len(whole) // 2], whole[:1000] + b"\0" * 100 + whole[1100:]]
    for content in contents:
        file.write_bytes(content)
        with pytest.raises(UserError, match=f"cannot read {file}"):
            array_data(file).train_set()
    for arrays in ({"images": noise(4, 1)}, {"x": noise(4, 1), "labels": [0, 1, 2, 3]}):
        np.savez(file, **arrays)
        with pytest.raises(UserError, match=f"cannot read {file}: it must have the arrays `images` and `labels`"):
            array_data(file).train_set()
    with file.open("wb") as stream:
        np.save(stream, noise(4, 1))  # an .npy by the name of an .npz
    with pytest.raises(UserError, match=f"cannot read {file}: it must have the arrays `images` and `labels`"):
        array_data(file).train_set()


# --- what is found ---


def test_statistics_are_those_of_a_slow_loop(train):
    found = folder_data(train).statistics
    means, deviations = slow_statistics(hwc(folder_data(train).train_set()))
    assert found.num_classes == 7
    assert found.mean == pytest.approx(means, abs=1e-12)
    assert found.std == pytest.approx(deviations, abs=1e-12)


@pytest.mark.parametrize("size", [32, 40])
def test_statistics_of_arrays_are_of_the_pixels_that_are_trained_on(tmp_path, size):
    pixels = np.random.default_rng(3).integers(0, [256, 100, 30], (5, size, size, 3)).astype(np.uint8)
    data = array_data(write_arrays(tmp_path / "a.npz", pixels, [0, 3, 2, 1, 0]))
    found, (means, deviations) = data.statistics, slow_statistics(hwc(data.train_set()))
    assert found.num_classes == 4
    assert found.mean == pytest.approx(means, abs=1e-12)
    assert found.std == pytest.approx(deviations, abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "told"),
    [([1, 2, 3], r"no images of the classes \[0\]"), ([0, 4, 1], r"classes \[2, 3\]"), ([0, 0, 0], "a single class")],
)
def test_labels_with_gaps_and_single_classes_are_refused(tmp_path, labels, told):
    data = array_data(write_arrays(tmp_path / "a.npz", noise(3, 1), labels))
    with pytest.raises(UserError, match=told):
        _ = data.num_classes


def test_statistics_are_computed_once_and_anew_when_a_picture_has_changed(own, monkeypatch):
    first = folder_data(own).statistics
    with monkeypatch.context() as patch:
        for name in ("images.files.read_image", "sets.custom._measured_statistics"):
            patch.setattr(f"aloe_lightning.data.{name}", lambda *_: pytest.fail("computed again"))
        assert folder_data(own).statistics == first
    Image.new("RGB", (32, 32), (255, 0, 0)).save(own / "bee" / "0.png")
    second = folder_data(own).statistics
    means, deviations = slow_statistics(hwc(folder_data(own).train_set()))
    assert second.mean == pytest.approx(means, abs=1e-12)
    assert second.std == pytest.approx(deviations, abs=1e-12)
    assert second.mean != first.mean


def test_what_is_given_is_kept_and_the_rest_found(own):
    found = folder_data(own).statistics
    mean, std = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]
    assert folder_data(own, mean=mean).statistics == (3, mean, found.std)
    assert folder_data(own, std=std).statistics == (3, found.mean, std)
    assert folder_data(own, num_classes=3, mean=mean, std=std).statistics == (3, mean, std)


@pytest.mark.parametrize("given", [2, 4])
def test_another_number_of_classes_than_there_are_is_refused(own, given):
    with pytest.raises(UserError, match=f"data.num_classes is {given}, but {own} has 3 classes"):
        _ = folder_data(own, num_classes=given).num_classes


def test_a_channel_that_does_not_vary_wants_a_deviation(tmp_path):
    pixels = noise(3, 1)
    pixels[..., 1] = 7
    file = write_arrays(tmp_path / "a.npz", pixels, [0, 1, 2])
    with pytest.raises(UserError, match=f"a colour channel of {file} is the same in every pixel: set data.mean"):
        _ = array_data(file).std
    assert array_data(file, std=[0.1, 0.2, 0.3]).statistics.std == [0.1, 0.2, 0.3]


def test_training_images_are_cropped_and_flipped_only_if_asked(own):
    images, labels = torch.from_numpy(noise(20, 2)).permute(0, 3, 1, 2), torch.zeros(20, dtype=torch.int64)
    assert folder_data(own, augment=False).augmented(images, labels, torch.Generator()) is images
    moved = folder_data(own).augmented(images, labels, torch.Generator().manual_seed(0))
    assert not (moved == images).all((1, 2, 3)).any()


# --- in the config ---


@pytest.mark.parametrize("given", [{}, {"mean": [0.1, 0.2, 0.3]}, {"std": [0.4, 0.5, 0.6]}])
def test_the_net_has_the_classes_and_the_normalisation_of_the_data(own, given):
    data = folder_data(own, **given)
    objective = {"_target_": "aloe_lightning.objectives.OE"}
    net = {"_target_": "aloe_lightning.nets.SmallNet", "name": "small", "width": 4}
    net = build_net({"net": net, "objective": objective}, data)
    found = folder_data(own).statistics._asdict() | given
    assert net.fc.out_features == data.num_classes == 3
    assert (list(data.mean), list(data.std)) == (found["mean"], found["std"])
    shown = torch.rand(1, 3, 32, 32, dtype=torch.float64)
    mean, std = (torch.tensor(found[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    torch.testing.assert_close(net.normalize(shown.float()), ((shown - mean) / std).float())


# --- through the command line ---


def big(folder, count, seed):
    """256x256 JPEGs."""
    folder.mkdir(parents=True)
    for index in range(count):
        pixels = np.random.default_rng(seed + index).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((256, 256), Image.Resampling.BICUBIC).save(folder / f"{index}.jpg")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Seven classes with 4 + 2 pictures each, 13 outliers of which one is a training picture, and two OOD sets."""
    root = tmp_path_factory.mktemp("photographs")
    for label, name in enumerate(CLASSES):
        big(root / "train" / name, 4, 10_000 + 100 * label)
        big(root / "test" / name, 2, 20_000 + 100 * label)
    big(root / "outliers", 12, 30_000)
    shutil.copy(root / "train" / "cat" / "2.jpg", root / "outliers" / "copy.jpg")
    big(root / "a", 9, 40_000)
    big(root / "b", 5, 50_000)
    return root


def on(root):
    paths = [f"data.train={root / 'train'}", f"data.test={root / 'test'}"]
    paths += ["outliers=folder", f"outliers.path={root / 'outliers'}"]
    sizes = ["batch.inliers=4", "batch.outliers=4", "net.width=8", "evaluation.max_id=8", "evaluation.max_ood=8"]
    return [
        "+experiment=custom",
        *paths,
        *sizes,
        "trainer.max_steps=2",
        "trainer.accelerator=cpu",
        "trainer.precision=32-true",
    ]


def test_ones_own_photographs_are_trained_on_and_evaluated(command, photographs):
    root = photographs
    outputs = command(*on(root), f"+ood.a={root / 'a'}", f"+ood.b={root / 'b'}")
    (cell,) = (outputs / "custom").glob("aloe-*")
    sizes = json.loads((cell / "data.json").read_text())
    found_in = {"custom (training)": 1, "custom (test)": 0, "a": 0, "b": 0}
    ood = {"a": 9, "b": 5}
    assert sizes == {"train": 28, "test": 14, "outliers": 12, "outliers_excluded": found_in, "ood": ood}
    (file,) = outputs.glob("models/custom-aloe-*/weights.safetensors")
    state = load_file(file)
    assert len(state["fc.weight"]) == 7
    with np.load(cell / "scores.npz") as scores:
        counts = {name.split("/")[1]: len(scores[name]) for name in scores.files if name.startswith("msp/")}
    assert counts == {"id": 8, "a": 8, "b": 5}
    assert {record.ood for record in read_records(cell / "records.jsonl") if record.ood} >= {"a", "b"}
    assert {"tables.csv", "tables_by_ood.csv", "tables.md"} <= set(os.listdir(outputs / "custom"))


def test_a_number_of_outputs_that_is_not_that_of_the_classes_is_refused(command, photographs, capsys):
    with pytest.raises(SystemExit) as end:
        command(*on(photographs), f"+ood.a={photographs / 'a'}", "net.num_classes=5")
    assert end.value.code == 2
    assert "net.num_classes" in capsys.readouterr().err


def test_a_wrong_number_of_classes_is_refused_also_where_all_is_given(command, photographs, capsys):
    given = ["data.num_classes=5", "data.mean=[0.5,0.5,0.5]", "data.std=[0.2,0.2,0.2]"]
    with pytest.raises(SystemExit) as end:
        command(*on(photographs), f"+ood.a={photographs / 'a'}", *given)
    assert end.value.code == 2
    assert "data.num_classes is 5" in capsys.readouterr().err
