"""GTSRB in both layouts, on pictures whose colour says class, track and frame, or that are noise."""

import hashlib
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.utils import shuffle

from aloe_lightning.data import GTSRB
from aloe_lightning.data.sets.gtsrb import held_out_frames
from aloe_lightning.errors import UserError
from data.fakes import noise

TRACKS, FRAMES, TESTED = 3, 2, 23
HEAD = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"


def gtsrb(root, **more):
    plain = {"augment": "none", "validation": 0.0, "max_test": None, "verify": False}
    return GTSRB(root=str(root), **(plain | more))


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_table(root, rows):
    text = "\n".join([HEAD, *(f"{name};40;41;5;5;35;36;{label}" for name, label in rows)])
    (root / "gtsrb" / "GT-final_test.csv").write_text(text + "\n")


def make_official(root, classes=43, tested=TESTED):
    """Torchvision's layout: every picture is of one colour (class, track, frame), test pictures of (index, 0, 0)."""
    for label in range(classes):
        for track in range(TRACKS):
            for frame in range(FRAMES):
                size = (15 + (11 * label + 5 * track + frame) % 40, 17 + (7 * label + 3 * frame) % 30, 1)
                file = root / f"gtsrb/GTSRB/Training/{label:05d}/{track:05d}_{frame:05d}.ppm"
                save(file, np.tile(np.array([label, track, frame], np.uint8), size))
    for index in range(tested):
        pixels = np.tile(np.array([index, 0, 0], np.uint8), (20 + index, 50 - index, 1))
        save(root / f"gtsrb/GTSRB/Final_Test/Images/{index:05d}.ppm", pixels)
    write_table(root, [(f"{index:05d}.ppm", 5 * index % 43) for index in reversed(range(tested))])
    return root


def write_split(root, split, labels, keys=str, features=None):
    """One of Udacity's pickles: noise of a seed for the split."""
    features = noise(len(labels), {"train": 1, "valid": 2, "test": 3}[split]) if features is None else features
    sides = np.full((len(labels), 2), 40, np.uint8)
    content = {"features": features, "labels": np.array(labels, np.uint8), "sizes": sides, "coords": np.tile(sides, 2)}
    file = root / "gtsrb" / f"{split}.p"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps({keys(key): value for key, value in content.items()}, protocol=3))


def make_udacity(root, keys=str):
    """43 classes, class c has 1 + c % 5 training images; the classes take turns."""
    write_split(root, "train", [label for turn in range(5) for label in range(43) if turn <= label % 5], keys)
    write_split(root, "valid", range(43), keys)
    write_split(root, "test", [7 * index % 43 for index in range(TESTED)], keys)
    return root


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    return make_official(tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="module")
def udacity(tmp_path_factory):
    return make_udacity(tmp_path_factory.mktemp("udacity"))


@pytest.fixture
def small(tmp_path):
    """Three classes in torchvision's layout, to break."""
    return make_official(tmp_path / "small", classes=3, tested=4)


def colours(images):
    """[(red, green, blue)] of pictures that are of one colour."""
    assert images.images.shape[1:] == (3, 32, 32)
    assert images.images.amin((2, 3)).equal(images.images.amax((2, 3)))
    return [tuple(colour) for colour in images.images[:, :, 0, 0].tolist()]


def hwc(images):
    return images.images.permute(0, 2, 3, 1).numpy()


# --- pixels, labels, order ---


@pytest.mark.parametrize("size", [(15, 15), (32, 32), (250, 31), (47, 90), (32, 200)])
def test_a_picture_is_resized_as_a_whole(small, size):
    picture = Image.fromarray(np.random.default_rng(4).integers(0, 256, (*size, 3), dtype=np.uint8))
    picture.save(small / "gtsrb/GTSRB/Training/00001/00000_00000.ppm")
    picture.save(small / "gtsrb/GTSRB/Final_Test/Images/00002.ppm")
    expected = np.asarray(picture.resize((32, 32), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(hwc(gtsrb(small).train_set())[TRACKS * FRAMES], expected)
    np.testing.assert_array_equal(hwc(gtsrb(small).test_set())[1], expected)
    assert size != (32, 32) or (expected == np.asarray(picture)).all()


def test_training_images_come_class_after_class_and_track_after_track(official):
    images = gtsrb(official).train_set()
    every = [(label, track, frame) for label in range(43) for track in range(TRACKS) for frame in range(FRAMES)]
    assert colours(images) == every
    assert images.labels.tolist() == [label for label, _, _ in every]
    assert images.labels.dtype == torch.int64


def test_test_images_come_in_the_order_of_their_table(official):
    images = gtsrb(official).test_set()
    assert colours(images) == [(index, 0, 0) for index in reversed(range(TESTED))]
    assert images.labels.tolist() == [5 * index % 43 for index in reversed(range(TESTED))]


@pytest.mark.parametrize("keys", [str, str.encode])
def test_udacitys_pickles_are_read_as_they_are(tmp_path, keys):
    data = gtsrb(make_udacity(tmp_path, keys))
    labels = [label for turn in range(5) for label in range(43) if turn <= label % 5]
    for seed, images, expected in (
        (1, data.train_set(), labels),
        (2, data.held_out(), list(range(43))),
        (3, data.test_set(), [7 * index % 43 for index in range(TESTED)]),
    ):
        np.testing.assert_array_equal(hwc(images), noise(len(expected), seed))
        assert images.labels.tolist() == expected
        assert images.labels.dtype == torch.int64


def test_torchvisions_layout_is_preferred_where_both_are(small):
    make_udacity(small)
    assert len(gtsrb(small).train_set()) == 3 * TRACKS * FRAMES
    assert len(gtsrb(small).test_set()) == 4


# --- validation ---


@pytest.mark.parametrize("share", [0.001, 0.1, 0.4, 0.67, 0.99])
def test_validation_takes_whole_tracks_of_every_class_and_leaves_some(official, share):
    data = gtsrb(official, validation=share)
    kept, held = colours(data.train_set()), colours(data.held_out())
    every = [(label, track, frame) for label in range(43) for track in range(TRACKS) for frame in range(FRAMES)]
    assert sorted(kept + held) == every
    of_kept, of_held = ({frame[:2] for frame in frames} for frames in (kept, held))
    assert not of_kept & of_held
    count = 1 if share < 0.5 else 2  # of three tracks
    assert all(len([1 for label, _ in of_held if label == wanted]) == count for wanted in range(43))
    assert data.held_out().labels.tolist() == [label for label, _, _ in held]
    again = gtsrb(official, validation=share)
    assert colours(again.held_out()) == held
    assert colours(again.train_set()) == kept


@settings(deadline=None)
@given(
    tracks=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    share=st.floats(0, 0.999),
    frames=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_a_share_of_the_tracks_is_held_out_whatever_the_order_of_the_frames(tracks, share, frames, seed):
    pairs = [(label, track) for label, count in enumerate(tracks) for track in range(count) for _ in range(frames)]
    labels, numbers = np.array(pairs).T
    held = held_out_frames(labels, numbers, share)
    chosen = {pair for pair, out in zip(pairs, held, strict=True) if out}
    assert not chosen & {pair for pair, out in zip(pairs, held, strict=True) if not out}
    for label, count in enumerate(tracks):
        found = len([1 for of_label, _ in chosen if of_label == label])
        if share == 0 or count == 1:
            assert found == 0
        else:
            assert 1 <= found <= count - 1
            assert abs(found - share * count) <= 0.5 or found in (1, count - 1)
    order = np.random.default_rng(seed).permutation(len(pairs))
    np.testing.assert_array_equal(held_out_frames(labels[order], numbers[order], share), held[order])


def test_the_tracks_held_out_are_the_same_on_every_machine():
    chosen = held_out_frames(np.full(30, 7), np.arange(30), 0.1)
    assert np.flatnonzero(chosen).tolist() == [15, 20, 25]  # by sha256sum of 7/0 to 7/29


def test_udacitys_own_validation_is_taken_whatever_the_share(udacity):
    for share in (0.0, 0.5):
        data = gtsrb(udacity, validation=share, evaluate="validation")
        np.testing.assert_array_equal(hwc(data.test_set()), noise(43, 2))
        assert len(data.train_set()) == sum(1 + label % 5 for label in range(43))


def test_the_validation_images_can_be_evaluated_instead_of_the_test_images(official):
    data = gtsrb(official, validation=0.1, evaluate="validation", max_test=5)
    assert colours(data.test_set()) == colours(data.held_out())
    assert len(data.test_set()) == 43 * FRAMES
    with pytest.raises(UserError, match=r"data\.evaluate=validation requires data\.validation above 0"):
        gtsrb(official, evaluate="validation").test_set()


# --- the test sample ---


@pytest.mark.parametrize("count", [1, 9, TESTED - 1])
@pytest.mark.parametrize("layout", ["official", "udacity"])
def test_the_test_sample_is_scikit_learns_in_the_order_of_the_file(request, layout, count):
    root = request.getfixturevalue(layout)
    whole, part = gtsrb(root).test_set(), gtsrb(root, max_test=count).test_set()
    chosen = sorted(shuffle(range(TESTED), random_state=1)[:count])
    assert part.images.equal(whole.images[chosen])
    assert part.labels.equal(whole.labels[chosen])


@pytest.mark.parametrize("count", [TESTED, TESTED + 1, None])
def test_no_fewer_test_images_are_all(official, count):
    assert len(gtsrb(official, max_test=count).test_set()) == TESTED


# --- what is not as it should be ---


def test_counts_are_held_to_the_published_ones(official, udacity):
    data = gtsrb(official, verify=True)
    with pytest.raises(UserError, match=f"^GTSRB in {official}: 258 training images where the official set has 26,640"):
        data.train_set()
    with pytest.raises(UserError, match=f"{official}: 23 test images where .* 12,630; .*paths.verify=false"):
        data.test_set()
    for split, found, published in (("train", 126, "34,799"), ("test", TESTED, "12,630")):
        with pytest.raises(UserError, match=rf"{udacity}: {found} images in {split}\.p where .* {published};"):
            getattr(gtsrb(udacity, verify=True), f"{split}_set")()


def test_a_missing_set_is_told_with_how_to_get_it(tmp_path):
    for method in ("train_set", "test_set"):
        with pytest.raises(UserError, match=f"GTSRB is not there.* in {tmp_path}: .*prepare gtsrb --root {tmp_path}"):
            getattr(gtsrb(tmp_path), method)()


def test_a_part_of_the_set_is_told_with_what_is_missing(small):
    (small / "gtsrb/GT-final_test.csv").unlink()
    with pytest.raises(UserError, match=rf"GTSRB is incomplete in {small}, gtsrb/GT-final_test\.csv missing"):
        gtsrb(small).train_set()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("stop/00000_00000.ppm", "is not named <class>/<track>_<frame>.ppm"),
        ("00001/photo.ppm", "is not named <class>/<track>_<frame>.ppm"),
        ("00043/00000_00000.ppm", "is of class 43; GTSRB has 0 to 42"),
        ("-1/00000_00000.ppm", "is of class -1; GTSRB has 0 to 42"),
    ],
)
def test_a_training_image_elsewhere_is_named(small, name, told):
    file = small / "gtsrb/GTSRB/Training" / name
    save(file, noise(1, 1)[0])
    with pytest.raises(UserError, match=f"^{file} {told}"):
        gtsrb(small).train_set()


def test_a_training_folder_without_images_is_named(small):
    folder = small / "gtsrb/GTSRB/Training"
    for file in folder.rglob("*.ppm"):
        file.unlink()
    with pytest.raises(UserError, match=f"no images in {folder}"):
        gtsrb(small).train_set()


@pytest.mark.parametrize(
    "text",
    [
        "Filename,ClassId\n00000.ppm,3\n",
        "Filename;Label\n00000.ppm;3\n",
        f"{HEAD}\n00000.ppm;40;41;5;5;35;36;stop\n",
        f"{HEAD}\n00000.ppm;40;41;5;5;35;36;3\n00001.ppm;40;4",
        f"{HEAD}\n00000.ppm;40;41;5;5;35;36;43\n",
        f"{HEAD}\n00000.ppm;40;41;5;5;35;36;-1\n",
        "\xff\xfe",
    ],
)
def test_a_table_that_is_damaged_or_another_is_named(small, text):
    file = small / "gtsrb/GT-final_test.csv"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=str(file)):
        gtsrb(small).test_set()


@pytest.mark.parametrize("text", ["", f"{HEAD}\n"])
def test_an_empty_table_is_named(small, text):
    (small / "gtsrb/GT-final_test.csv").write_text(text)
    with pytest.raises(UserError, match=str(small / "gtsrb/GT-final_test.csv")):
        gtsrb(small).test_set()


def test_missing_test_images_are_counted_and_named(small):
    folder = small / "gtsrb/GTSRB/Final_Test/Images"
    (folder / "00001.ppm").unlink()
    with pytest.raises(
        UserError, match=rf"^{folder} lacks 1 of the 4 images of .*GT-final_test\.csv: \['00001\.ppm'\]"
    ):
        gtsrb(small).test_set()


def test_a_damaged_picture_is_named(small):
    broken = small / "gtsrb/GTSRB/Training/00002/00001_00001.ppm"
    broken.write_bytes(broken.read_bytes()[:40])
    with pytest.raises(UserError, match=f"cannot read the image {broken}"):
        gtsrb(small).train_set()


@pytest.mark.parametrize("kept", [0, 2, 100, 0.5, -1])
def test_a_truncated_pickle_is_named(tmp_path, kept):
    file = make_udacity(tmp_path) / "gtsrb/test.p"
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(UserError, match=f"cannot read {file}: truncated or not Udacity's GTSRB"):
        gtsrb(tmp_path).test_set()


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return type(self.path).touch, (self.path,)


def test_a_pickle_with_code_is_named_and_not_run(tmp_path):
    file = make_udacity(tmp_path) / "gtsrb/valid.p"
    harmful = pickle.dumps({"features": Harmful(tmp_path / "harm"), "labels": []})
    file.write_bytes(harmful)
    with pytest.raises(UserError, match=f"cannot read {file}: truncated or not Udacity's GTSRB"):
        gtsrb(tmp_path).train_set()
    assert not (tmp_path / "harm").exists()
    pickle.loads(harmful)
    assert (tmp_path / "harm").exists(), "the pickle of this test is harmless: it shows nothing"


FOUR = noise(4, 1)


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {},
        {"features": FOUR},
        {"features": FOUR[:1]},
        {"features": FOUR, "labels": [0, 1, 2]},
        {"features": FOUR, "labels": [[0], [1], [2], [3]]},
        {"features": FOUR, "labels": [0.0, 1.5, 2.0, 3.0]},
        {"features": FOUR, "labels": [0, 1, 2, 43]},
        {"features": FOUR, "labels": [0, 1, 2, -1]},
        {"features": FOUR / 255, "labels": [0, 1, 2, 3]},
        {"features": FOUR.transpose(0, 3, 1, 2), "labels": [0, 1, 2, 3]},
        {"features": FOUR.tolist(), "labels": [0, 1, 2, 3]},
    ],
)
def test_a_pickle_of_something_else_is_named(tmp_path, content):
    file = make_udacity(tmp_path) / "gtsrb/test.p"
    file.write_bytes(pickle.dumps(content, protocol=3))
    with pytest.raises(UserError, match=str(file)):
        gtsrb(tmp_path).test_set()


@pytest.mark.parametrize("augment", ["offline", "online"])
def test_classes_without_training_images_are_named(small, augment):
    with pytest.raises(UserError, match=rf"GTSRB in {small} has no training images of the classes \[3, 4, .* 42\]"):
        gtsrb(small, augment=augment).train_set()
    assert len(gtsrb(small, augment="none").train_set()) == 3 * TRACKS * FRAMES


# --- augmentation ---


@pytest.mark.parametrize("augment", ["offline", "online"])
@pytest.mark.parametrize("per_class", [3, 5, 7])
def test_augmentation_balances_the_classes(udacity, augment, per_class):
    images = gtsrb(udacity, augment=augment, per_class=per_class).train_set()
    assert len(images) == 43 * per_class
    assert images.labels.bincount().tolist() == [per_class] * 43
    originals = gtsrb(udacity).train_set()
    assert originals.labels.bincount().tolist() == [1 + label % 5 for label in range(43)]
    taken = images.take(torch.arange(len(images)))
    for label in range(43):  # those that are there stand first in their class
        mine = originals.images[originals.labels == label]
        if len(mine) <= per_class:
            assert taken[label * per_class :][: len(mine)].equal(mine)


def test_offline_images_are_the_same_for_a_seed_and_do_not_change_in_training(udacity):
    first, again, other = (gtsrb(udacity, augment="offline", per_class=6, seed=seed).train_set() for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.rows, again.rows)
    assert (first.rows != other.rows).any()
    data, images, labels = gtsrb(udacity, augment="offline", per_class=6), torch.zeros(5, 3, 32, 32), torch.arange(5)
    assert data.augmented(images, labels, torch.Generator().manual_seed(0)) is images
    assert gtsrb(udacity).augmented(images, labels, torch.Generator()) is images


def test_online_each_image_stays_as_often_as_an_original_has_a_place_offline(udacity):
    data = gtsrb(udacity, augment="online", per_class=5)
    labels = torch.arange(43).repeat(40)
    images = torch.from_numpy(noise(len(labels), 8)).permute(0, 3, 1, 2).contiguous()
    before = hashlib.sha256(images.numpy().tobytes()).hexdigest()
    augmented = data.augmented(images, labels, torch.Generator().manual_seed(0))
    assert augmented.dtype == torch.uint8
    assert hashlib.sha256(images.numpy().tobytes()).hexdigest() == before
    stayed = (augmented == images).all((1, 2, 3))
    for count in range(1, 6):  # of the 5 places of a class
        mine = stayed[labels % 5 == count - 1].double()
        share = count / 5
        assert len(mine) >= 320
        assert abs(float(mine.mean()) - share) <= 4 * (share * (1 - share) / len(mine)) ** 0.5
    # What moved is still the picture, turned: noise keeps its mean roughly.
    moved = augmented[~stayed].float().mean((1, 2, 3)) - images[~stayed].float().mean((1, 2, 3))
    assert moved.abs().max() < 25


def test_online_draws_are_replayed_by_their_generator(udacity):
    data = gtsrb(udacity, augment="online", per_class=10)
    images, labels = torch.from_numpy(noise(86, 9)).permute(0, 3, 1, 2), torch.arange(43).repeat(2)
    first, again, other = (data.augmented(images, labels, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert first.equal(again)
    assert not first.equal(other)
