"""`python -m aloe_lightning.data`: what it prints, what it exits with, and what is on its contact sheets."""

import hashlib
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from aloe_lightning.data import Demo, NpyImages
from aloe_lightning.data import __main__ as app
from aloe_lightning.data import contact_sheet as sheet
from aloe_lightning.data.catalogue import cards
from aloe_lightning.data.download.check import check
from aloe_lightning.data.sets import demo_pictures
from aloe_lightning.errors import UserError
from data.archives import (
    gtsrb_labels_tree,
    gtsrb_test_tree,
    gtsrb_training_tree,
    make_imagenet32,
    make_tiny_images,
)
from data.fakes import make_cifar10, make_npy, make_root, make_svhn, noise

COUNTS = {
    "cifar10": {"train": 30, "test": 6},
    "cifar100": {"train": 12, "test": 6},
    "gtsrb": {"train": 86, "validation": 86, "test": 12},  # of two tracks a class, one is held out
    "random_images_300k": {"train": 20},
    "tiny_images": {"train": 18},
    "imagenet32": {"train": 20},
    "svhn": {"test": 4},
    **{name: {"test": 4} for name in ("textures", "places365", "lsun_c", "lsun_r", "isun")},
}
FETCHED = [name for name, card in cards().items() if card.archives]
BY_HAND = ["tiny_images", "imagenet32"]
PREFIX = "aloe_lightning.data: error: "


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """A root where a small copy of every named set stands."""
    root = make_root(tmp_path_factory.mktemp("sets"))
    for make in (make_tiny_images, make_imagenet32):
        make(root)
    for make in (gtsrb_training_tree, gtsrb_test_tree, gtsrb_labels_tree):
        make(root / "gtsrb")
    return root


@pytest.fixture
def run(capsys):
    """(exit code, what it says, what it complains of)."""

    def main(*words):
        code = app.main([str(word) for word in words])
        return code, *capsys.readouterr()

    return main


def table(text):
    """The rows of a printed table by their first word; a cell that goes over several lines is put together again."""
    rows = {}
    for line in re.split(r"─ ?\n", text)[1].splitlines():
        if line.strip():
            if line[2] != " ":
                row = rows[line.split()[0]] = []
            row.append(re.split(r"\s{2,}", line.strip()))
    return {name: [*lines[0][:-1], " ".join(line[-1] for line in lines)] for name, lines in rows.items()}


def mistake(result):
    """The one line that tells a mistake."""
    code, out, error = result
    assert (code, out) == (2, "")
    assert error.startswith(PREFIX)
    assert error.count("\n") == 1
    return error.removeprefix(PREFIX).removesuffix("\n")


# --- list ---


def bytes_below(*paths):
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*"))]
    return sum(file.stat().st_size for file in files if file.is_file())


def test_every_set_is_listed_with_role_images_size_and_state(run, sets):
    code, out, _ = run("list", "--root", sets)
    rows = table(out)
    assert code == 0
    assert str(sets) in out
    assert list(rows) == list(cards())
    for name, card in cards().items():
        size = bytes_below(*(sets / path for path in card.layouts[0])) / 1000
        assert rows[name][1] == ", ".join(card.roles)
        assert rows[name][2] == " + ".join(f"{count:,} {split}" for split, count in card.images.items())
        assert rows[name][3:] == [f"{size:.1f} kB", "there"]
    assert rows["cifar10"][:3] == ["cifar10", "in-distribution, OOD test", "50,000 train + 10,000 test"]


def test_sets_that_are_not_there_are_listed_with_how_they_come(run, tmp_path):
    rows = table(run("list", "--root", tmp_path / "nowhere")[1])
    assert {name: row[3:] for name, row in rows.items()} == {
        **{name: ["–", "not there: `prepare` downloads it"] for name in FETCHED},
        **{name: ["–", "not there: to be obtained manually, see `show`"] for name in BY_HAND},
    }


def test_incomplete_sets_are_listed_with_what_is_missing(run, tmp_path):
    gtsrb_training_tree(tmp_path / "gtsrb")
    make_imagenet32(tmp_path)
    (tmp_path / "imagenet32" / "train_data_batch_4").unlink()
    rows = table(run("list", "--root", tmp_path)[1])
    missing = "gtsrb/GTSRB/Final_Test/Images, gtsrb/GT-final_test.csv"
    assert rows["gtsrb"][-1] == f"incomplete: {missing} missing"
    assert rows["imagenet32"][-1] == "incomplete: imagenet32/train_data_batch_4 missing"


def test_the_root_is_the_environments_unless_given(run, tmp_path, monkeypatch):
    make_svhn(tmp_path / "mine" / "svhn" / "test_32x32.mat")
    monkeypatch.setenv("ALOE_DATA", str(tmp_path / "mine"))
    assert table(run("list")[1])["svhn"][-1] == "there"
    assert table(run("list", "--root", tmp_path)[1])["svhn"][-1].startswith("not there")
    monkeypatch.delenv("ALOE_DATA")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").rename(tmp_path / "data")
    assert table(run("list")[1])["svhn"][-1] == "there"


@pytest.mark.parametrize("name", ["[old] sets", "[/old]", ":apple:"])
def test_a_root_of_any_name_is_printed_as_it_is(run, tmp_path, name):
    make_npy(tmp_path / name / "o.npy")
    assert f"root: {tmp_path}/{name}" in run("list", "--root", tmp_path / name)[1]
    assert name in run("check", f"{tmp_path}/{name}/o.npy")[1]
    note = table(run("check", "--root", tmp_path / name, "svhn")[1])["svhn"][-1]
    assert f"{tmp_path}/{name}".replace(" ", "") in note.replace(" ", "")


def test_what_needs_no_pixels_imports_no_torch(sets, tmp_path):
    script = f"""
import sys
from aloe_lightning.data.__main__ import main
assert main(["list", "--root", {str(sets)!r}]) == 0
assert main(["prepare", "svhn", "--root", {str(sets)!r}]) == 0
assert main(["prepare", "tiny_images", "--root", {str(tmp_path)!r}]) == 2
assert main(["check", "cifra10"]) == 2
print([name for name in ("torch", "torchvision", "scipy", "pytorch_lightning") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_command_exits_with_its_code():
    command = [sys.executable, "-m", "aloe_lightning.data", "show", "cifra10"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert mistake((done.returncode, done.stdout, done.stderr)).startswith("no data set called 'cifra10'")


# --- show ---


@pytest.mark.parametrize("name", cards())
def test_the_page_of_a_set_is_shown(run, name):
    code, out, error = run("show", name)
    assert (code, error) == (0, "")
    assert out.startswith(f"{name}: ")
    found = re.findall(r"^(\w+): ", out, re.MULTILINE)
    assert found[1:7] == ["Images", "Classes", "Split", "Source", "Terms", "Citation"]
    assert ("To obtain it manually: " in out) == (name in BY_HAND)
    assert "Attributes:" not in out


def test_several_pages_are_shown_in_the_order_asked_also_by_the_folders_names(run):
    out = run("show", "dtd", "lsun_c", "LSUN_resize")[1]
    assert re.findall(r"^([a-z]\w+): ", out, re.MULTILINE) == ["textures", "lsun_c", "lsun_r"]


# --- names ---


@pytest.mark.parametrize("command", ["show", "prepare", "check", "sample"])
@pytest.mark.parametrize(("name", "near"), [("cifra10", "cifar10"), ("SVNH", None), ("texture", "textures")])
def test_an_unknown_name_is_told_with_the_nearest(run, command, name, near):
    told = mistake(run(command, name))
    hint = f", did you mean {near!r}?" if near else "."
    assert told == f"no data set called {name!r}{hint} Known: {', '.join(cards())}; or a path to custom images"


@pytest.mark.parametrize("words", [[], ["lits"], ["show"], ["check", "--strickt", "svhn"], ["sample", "a", "b"]])
def test_words_that_are_no_command_exit_with_2(words):
    with pytest.raises(SystemExit) as error:
        app.main(words)
    assert error.value.code == 2


# --- prepare ---


@pytest.mark.parametrize("name", BY_HAND)
def test_a_set_that_has_to_be_placed_by_hand_is_told_how(run, tmp_path, name):
    told = mistake(run("prepare", name, "--root", tmp_path))
    assert told == f"{cards()[name].title} cannot be downloaded: {cards()[name].manual_instructions}"


def test_what_is_there_is_left_alone(run, sets):
    code, out, _ = run("prepare", *cards(), "--root", sets)
    there = [f"{card.title} was there already, in {sets}" for card in cards().values()]
    assert (code, out.splitlines()) == (0, [*there, "12 of 12 sets are there"])


def test_one_set_needs_no_sum(run, sets):
    assert run("prepare", "svhn", "--root", sets) == (0, f"SVHN was there already, in {sets}\n", "")


def test_all_means_all_that_can_be_fetched(run, sets):
    code, out, _ = run("prepare", "all", "--root", sets)
    there = [f"{cards()[name].title} was there already, in {sets}" for name in FETCHED]
    assert (code, out.splitlines()) == (0, [*there, "10 of 10 sets are there"])


def test_a_failure_does_not_keep_the_other_sets_from_coming(run, tmp_path, monkeypatch):
    def prepare(card, root):
        if card.name in ("gtsrb", "isun"):
            raise UserError(f"{card.title} fails")
        return [f"{card.title} comes to {root}"]

    monkeypatch.setattr(app, "prepare", prepare)
    code, out, error = run("prepare", "all", "--root", tmp_path)
    comes = [f"{cards()[name].title} comes to {tmp_path}" for name in FETCHED if name not in ("gtsrb", "isun")]
    assert (code, out.splitlines()) == (2, [*comes, "8 of 10 sets are there"])
    assert error.splitlines() == [f"{PREFIX}GTSRB fails", f"{PREFIX}iSUN fails"]


def test_an_interrupt_is_told_in_a_line(run, tmp_path, monkeypatch):
    def prepare(card, root):
        raise KeyboardInterrupt

    monkeypatch.setattr(app, "prepare", prepare)
    assert run("prepare", "svhn", "--root", tmp_path) == (130, "", "aloe_lightning.data: interrupted\n")


# --- check ---


@pytest.mark.parametrize("name", COUNTS)
def test_a_part_of_any_set_is_usable_and_what_it_lacks_is_noted(sets, name):
    verdict = check(name, sets)
    assert (verdict.name, verdict.state, verdict.counts) == (name, "usable", COUNTS[name])
    assert re.search(r"MD5 [0-9a-f]{32}, expected [0-9a-f]{32}|: \d+ .*where the official set has ", verdict.note)


@pytest.mark.parametrize("name", cards())
def test_a_set_that_is_not_there_is_missing_and_how_to_obtain_it_is_noted(tmp_path, name):
    verdict = check(name, tmp_path)
    assert (verdict.state, verdict.counts, verdict.note) == ("missing", {}, cards()[name].how_to_obtain(tmp_path))


def damage(root, name):
    """Make a set unreadable in its middle or at its end."""
    if name == "gtsrb":
        (root / "gtsrb" / "GT-final_test.csv").write_text("no;table\n1;2\n")
    elif name in ("cifar10", "svhn"):
        file = root / {"cifar10": "cifar-10-batches-py/test_batch", "svhn": "svhn/test_32x32.mat"}[name]
        file.write_bytes(file.read_bytes()[:500])
    else:
        (root / cards()[name].layouts[0][0] / "x.png").write_bytes(b"no picture")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("gtsrb", "GT-final_test.csv: it must have the columns Filename and ClassId"),
        ("cifar10", "test_batch: truncated or not a CIFAR batch"),
        ("svhn", "truncated or not SVHN's .mat"),
        ("isun", "cannot read the image"),
    ],
)
def test_a_damaged_set_is_broken_and_the_file_is_noted(tmp_path, name, told):
    make_root(tmp_path)
    for make in (gtsrb_training_tree, gtsrb_test_tree, gtsrb_labels_tree):
        make(tmp_path / "gtsrb")
    damage(tmp_path, name)
    verdict = check(name, tmp_path)
    assert (verdict.state, verdict.counts) == ("broken", {})
    assert told in verdict.note


def test_half_a_set_is_broken(tmp_path):
    gtsrb_training_tree(tmp_path / "gtsrb")
    verdict = check("gtsrb", tmp_path)
    assert verdict.state == "broken"
    assert "gtsrb/GTSRB/Final_Test/Images, gtsrb/GT-final_test.csv missing" in verdict.note


def make_official(root, monkeypatch):
    """Let the fakes be the published files."""
    images = {"svhn": {"test": 4}, "lsun_r": {"test": 4}, "gtsrb": {"train": 172, "test": 12}}
    for name in ("svhn", "lsun_r", "gtsrb", "cifar10"):
        card = cards()[name]
        sums = {split: {path: md5_of(root / path) for path in files} for split, files in card.sums.items()}
        monkeypatch.setitem(cards(), name, replace(card, sums=sums, images=images.get(name, card.images)))


def md5_of(file):
    return hashlib.md5(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["svhn", "lsun_r", "gtsrb", "cifar10"])
def test_a_set_as_published_is_official(sets, monkeypatch, name):
    make_official(sets, monkeypatch)
    verdict = check(name, sets)
    state = "official" if name in ("svhn", "cifar10") else "complete"
    assert (verdict.state, verdict.counts, verdict.note) == (state, COUNTS[name], "")


def make_own(folder):
    """An array, a folder and labelled arrays, of 20, 5 and 7 images."""
    make_npy(folder / "mine.npy")
    for index, pixels in enumerate(noise(5, 1)):
        (folder / "mine" / "part").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / "mine" / "part" / f"{index}.png")
    np.savez(folder / "mine.npz", images=noise(7, 2), labels=np.arange(7) % 3)


@pytest.mark.parametrize(("name", "count"), [("mine.npy", 20), ("mine", 5), ("mine.npz", 7)])
def test_images_of_ones_own_are_counted(tmp_path, name, count):
    make_own(tmp_path)
    verdict = check(tmp_path / name, tmp_path)
    assert (verdict.state, verdict.counts, verdict.note) == ("usable", {"images": count}, "")


def test_labels_from_1_are_broken_as_a_training_finds_them(tmp_path):
    for first, state in ((0, "usable"), (1, "broken")):
        np.savez(tmp_path / "labels.npz", images=noise(6, 2), labels=np.arange(6) % 3 + first)
        verdict = check(tmp_path / "labels.npz", tmp_path)
        assert verdict.state == state
    assert f"{tmp_path / 'labels.npz'}: no label is 0, the smallest is 1" in verdict.note


@pytest.mark.parametrize(
    ("words", "states", "code", "strict"),
    [
        (["svhn"], {"svhn": "official"}, 0, 0),
        (["svhn", "isun"], {"svhn": "official", "isun": "usable"}, 0, 1),
        (["dtd"], {"textures": "usable"}, 0, 1),
        (["tiny_images", "./mine"], {"tiny_images": "missing", "mine": "usable"}, 1, 1),
        (["cifar100"], {"cifar100": "broken"}, 1, 1),
        (["mine.npy", "mine", "mine.npz"], {"mine.npy": "usable", "mine": "usable", "mine.npz": "usable"}, 0, 0),
        (["svhn", "not/here.npy"], {"svhn": "official", "not/here.npy": "broken"}, 1, 1),
    ],
)
def test_the_exit_code_of_check_is_that_of_the_worst(run, tmp_path, monkeypatch, words, states, code, strict):
    make_root(tmp_path / "sets")
    make_own(tmp_path)
    monkeypatch.chdir(tmp_path)
    make_official(tmp_path / "sets", monkeypatch)
    (tmp_path / "sets" / "cifar-100-python" / "train").unlink()
    found = run("check", "--root", "sets", *words)
    assert found[0] == code
    assert {name: row[1] for name, row in table(found[1]).items()} == states
    assert run("check", "--strict", "--root", "sets", *words)[0] == strict


def test_a_verdict_is_printed_with_counts_and_note(run, sets):
    rows = table(run("check", "gtsrb", "tiny_images", "--root", sets)[1])
    assert rows["gtsrb"][:3] == ["gtsrb", "usable", "86 train + 86 validation + 12 test"]
    note = f"80 Million Tiny Images in {sets}: 20 images where the official set has 79,302,017; "
    assert rows["tiny_images"][3].startswith(note)


# --- sample ---


def tile(pixels, row, column, margin):
    """The picture at a place of a sheet, each of its pixels being four of the sheet's."""
    top, left = 4 + 68 * row, margin + 68 * column
    large = pixels[top : top + 64, left : left + 64].reshape(32, 2, 32, 2, 3)
    assert (large == large[:, :1, :, :1]).all()
    return large[:, 0, :, 0]


def read(path):
    with Image.open(path) as opened:
        assert (opened.format, opened.mode) == ("PNG", "RGB")
        return np.asarray(opened)


def places_of(images, pixels, rows, columns, margin):
    """Which of the images stand on the sheet, row by row."""
    known = {np.ascontiguousarray(image).tobytes(): index for index, image in enumerate(images)}
    return [[known[tile(pixels, row, column, margin).tobytes()] for column in range(columns)] for row in range(rows)]


def test_a_set_with_classes_has_a_row_for_each(run, tmp_path):
    make_cifar10(tmp_path)
    output = tmp_path / "new" / "sheet.png"
    code, out, _ = run("sample", "cifar10", "--root", tmp_path, "--output", output)
    pixels = read(output)
    assert (code, out) == (0, f"wrote {output} ({pixels.shape[1]} x {pixels.shape[0]})\n")
    images = np.concatenate([noise(6, number) for number in range(1, 6)])
    labels = np.array([(number + index) % 10 for number in range(1, 6) for index in range(6)])
    assert pixels.shape == (4 + 10 * 68, 34 + 5 * 68, 3)
    for label in range(10):
        members = np.flatnonzero(labels == label)
        for column in range(5):
            shown = tile(pixels, label, column, 34)
            wanted = images[members[column]] if column < len(members) else np.full((32, 32, 3), 255)
            np.testing.assert_array_equal(shown, wanted)
        assert pixels[4 + 68 * label : 68 + 68 * label, :34].min() < 128, "the class's number"


def test_another_split_is_shown_if_asked_and_an_unknown_one_told(run, sets, tmp_path):
    run("sample", "cifar10", "--root", sets, "--split", "test", "--output", tmp_path / "a.png")
    pixels = read(tmp_path / "a.png")
    for row, place in enumerate([4, 5, 0, 1, 2, 3]):  # labels 6, 7, 8, 9, 0, 1
        np.testing.assert_array_equal(tile(pixels, row, 0, 34), noise(6, 6)[place])
    told = mistake(run("sample", "cifar10", "--root", sets, "--split", "validation", "--output", tmp_path / "b.png"))
    assert told == "cifar10 has no split 'validation': train, test"
    assert not (tmp_path / "b.png").exists()


def test_a_set_without_classes_fills_its_rows(run, sets, tmp_path):
    run("sample", "random_images_300k", "--root", sets, "--output", tmp_path / "a.png")
    pixels = read(tmp_path / "a.png")
    assert pixels.shape == (4 + 2 * 68, 4 + 16 * 68, 3)
    for index, image in enumerate(noise(20, 200)):
        np.testing.assert_array_equal(tile(pixels, index // 16, index % 16, 4), image)
    assert (tile(pixels, 1, 4, 4) == 255).all()


def test_of_many_images_a_choice_by_the_seed_is_shown_in_the_order_of_the_set(run, tmp_path):
    make_npy(tmp_path / "o.npy", count=200, seed=9)

    def shown(pixels):
        assert pixels.shape == (4 + 10 * 68, 4 + 16 * 68, 3)
        return [place for row in places_of(noise(200, 9), pixels, 10, 16, 4) for place in row]

    def drawn(seed):
        source = NpyImages(path=str(tmp_path / "o.npy")).load()
        return shown(np.asarray(sheet.contact_sheet(sheet.sample_rows(source, seed))))

    run("sample", tmp_path / "o.npy", "--seed", 1, "--output", tmp_path / "a.png")
    places = shown(read(tmp_path / "a.png"))
    assert places == sorted(set(places))
    assert drawn(1) == places != drawn(0)


@pytest.mark.parametrize(("words", "seed"), [([], 1), (["--split", "test"], 2)])
def test_the_demo_is_shown_without_a_file(run, tmp_path, monkeypatch, words, seed):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run("sample", "demo", "--root", "nowhere", *words)
    assert (code, out) == (0, "wrote demo.png (1122 x 684)\n")
    pixels = read("demo.png")
    images, labels = demo_pictures.in_distribution(400, seed)
    for label, places in enumerate(places_of(images.transpose(0, 2, 3, 1), pixels, 10, 16, 34)):
        assert places == sorted(set(places))
        assert (labels[places] == label).all()


def inverted(images, draws):
    return 255 - images


def test_augmented_signs_stand_beside_their_originals_in_two_columns_of_classes(run, sets, tmp_path, monkeypatch):
    monkeypatch.setattr(sheet, "warp_signs", inverted)
    run("sample", "demo", "--augmented", "--output", tmp_path / "a.png")
    pixels = read(tmp_path / "a.png")
    block = 34 + 12 * 68
    assert pixels.shape == (4 + 5 * 68, 2 * block, 3)
    images, labels = demo_pictures.in_distribution(400, 1)
    for label in range(10):
        half = pixels[:, label // 5 * block :]
        original = tile(half, label % 5, 0, 34)
        assert (images[labels == label].transpose(0, 2, 3, 1) == original).all((1, 2, 3)).sum() == 1
        for column in range(1, 12):
            np.testing.assert_array_equal(tile(half, label % 5, column, 34), 255 - original)


def test_augmentation_makes_eleven_versions_that_differ(run, tmp_path):
    source = Demo(num_train=40).train_set()
    rows, again, other = (sheet.augmented_rows(source, seed) for seed in (3, 3, 4))
    for row, same in zip(rows, again, strict=True):
        assert row.images.equal(same.images)
        assert len(row.images.flatten(1).unique(dim=0)) == 12
    assert not torch.stack([row.images for row in rows]).equal(torch.stack([row.images for row in other]))


def test_augmentation_of_a_set_without_classes_is_refused(run, sets, tmp_path):
    told = mistake(run("sample", "isun", "--augmented", "--root", sets, "--output", tmp_path / "a.png"))
    assert told == "--augmented shows a row for each class; this set has none"
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize(("name", "output"), [("mine.npy", "mine.png"), ("./mine", "mine.png"), ("mine/.", "mine.png")])
def test_the_sheet_of_ones_own_images_has_their_name(run, tmp_path, monkeypatch, name, output):
    make_own(tmp_path)
    monkeypatch.chdir(tmp_path)
    width, height, image = (1092, 140, noise(20, 200)[4]) if name == "mine.npy" else (344, 72, noise(5, 1)[4])
    assert run("sample", name)[:2] == (0, f"wrote {output} ({width} x {height})\n")
    np.testing.assert_array_equal(tile(read(output), 0, 4, 4), image)


def test_the_folder_one_is_in_has_a_name_too(run, tmp_path, monkeypatch):
    make_own(tmp_path)
    monkeypatch.chdir(tmp_path / "mine")
    assert run("sample", ".")[1].startswith("wrote mine.png ")


def test_a_sheet_that_cannot_be_written_is_told(run, tmp_path):
    (tmp_path / "file").touch()
    output = tmp_path / "file" / "a.png"
    assert mistake(run("sample", "demo", "--output", output)).startswith(f"cannot write {output} (")


def test_a_sheet_goes_into_a_folder_under_the_name_of_its_set(run, tmp_path):
    run("sample", "demo", "--output", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["demo.png"]


def test_a_set_that_is_not_there_cannot_be_shown(run, tmp_path):
    assert mistake(run("sample", "svhn", "--root", tmp_path)).startswith(
        f"SVHN is not there: no svhn/test_32x32.mat in {tmp_path}: "
    )
