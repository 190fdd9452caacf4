"""Tiny fake archives in the real formats and with the real inner layouts: `python tests/data/archives.py DEST`.

`TREES` makes the content of each archive, so that a test can compare without reading the archive. Deterministic.
"""

import csv
import gzip
import io
import pickle
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import replace
from functools import cache
from hashlib import md5
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for use as a script

from data.fakes import cifar_rows, make_cifar10, make_cifar100, make_npy, make_svhn, noise, write_pickle

SIGNS, TRACKS, FRAMES, TEST_SIGNS = 43, 2, 2, 12
SIGN_COLUMNS = ["Filename", "Width", "Height", "Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2", "ClassId"]
DTD_CLASSES = ("banded", "dotted")


def cifar10_tree(folder):
    make_cifar10(folder)
    names = [b"class_%d" % label for label in range(10)]
    write_pickle(folder / "cifar-10-batches-py" / "batches.meta", {b"num_vis": 3072, b"label_names": names})


def cifar100_tree(folder):
    make_cifar100(folder)
    names = {b"fine_label_names": [b"fine_%d" % label for label in range(100)]}
    write_pickle(folder / "cifar-100-python" / "meta", names)


def picture(width, height, seed):
    """uint8 (height, width, 3): slopes that start at the seed, so that a few bytes are enough when compressed."""
    y, x, channel = np.ogrid[:height, :width, :3]
    return ((3 * y + 5 * x + 40 * channel + 17 * seed) % 256).astype(np.uint8)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def training_sign(label, track, frame):
    """Picture `GTSRB/Training/{label:05d}/{track:05d}_{frame:05d}.ppm`; its size differs by class and frame."""
    return picture(21 + label % 20, 21 + (3 * label + frame) % 20, label + 50 * track + 100 * frame)


def final_sign(number):
    """Picture `GTSRB/Final_Test/Images/{number:05d}.ppm`."""
    return picture(20 + number, 40 - number, 7 * number)


def final_label(number):
    """ClassId of a test picture."""
    return 7 * number % SIGNS


def sign_row(name, pixels, label):
    height, width, _ = pixels.shape
    return [name, width, height, 5, 5, width - 6, height - 6, label]


def write_sign_table(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as stream:
        csv.writer(stream, delimiter=";", lineterminator="\r\n").writerows([SIGN_COLUMNS, *rows])


def gtsrb_training_tree(folder):
    for label in range(SIGNS):
        place, rows = folder / "GTSRB" / "Training" / f"{label:05d}", []
        for track in range(TRACKS):
            for frame in range(FRAMES):
                name, pixels = f"{track:05d}_{frame:05d}.ppm", training_sign(label, track, frame)
                save(place / name, pixels)
                rows.append(sign_row(name, pixels, label))
        write_sign_table(place / f"GT-{label:05d}.csv", rows)


def gtsrb_test_tree(folder):
    for number in range(TEST_SIGNS):
        save(folder / "GTSRB" / "Final_Test" / "Images" / f"{number:05d}.ppm", final_sign(number))


def gtsrb_labels_tree(folder):
    rows = [sign_row(f"{number:05d}.ppm", final_sign(number), final_label(number)) for number in range(TEST_SIGNS)]
    write_sign_table(folder / "GT-final_test.csv", rows)


def svhn_tree(folder):
    file = folder / "test_32x32.mat"
    make_svhn(file)
    content = file.read_bytes()  # its first 116 bytes are prose, with the time
    file.write_bytes(b"MATLAB 5.0 MAT-file".ljust(116) + content[116:])


def textures_tree(folder):
    names = [f"{label}/{label}_{number:04d}.jpg" for label in DTD_CLASSES for number in (2, 4, 9)]
    for place, name in enumerate(names):
        save(folder / "dtd" / "images" / name, picture(60 + 7 * place, 48, place))
    (folder / "dtd" / "labels").mkdir()
    (folder / "dtd" / "labels" / "train1.txt").write_text("".join(f"{name}\n" for name in names))


def places_tree(folder):
    for number in range(1, 5):
        save(folder / "val_256" / f"Places365_val_{number:08d}.jpg", picture(64, 64, number))


def lsun_c_tree(folder):
    for number in range(6):
        size = 36 if number % 3 == 2 else 32  # real ones are of both sizes
        save(folder / "LSUN" / "test" / f"{number}.png", picture(size, size, number))


def lsun_r_tree(folder):
    for number in range(4):
        save(folder / "LSUN_resize" / "LSUN_resize" / f"{number}.png", picture(32, 32, 20 + number))


def isun_tree(folder):
    for number in range(4):
        save(folder / "iSUN" / "iSUN_patches" / f"{number}.jpeg", picture(32, 32, 30 + number))


TREES = {
    "cifar-10-python.tar.gz": cifar10_tree,
    "cifar-100-python.tar.gz": cifar100_tree,
    "GTSRB-Training_fixed.zip": gtsrb_training_tree,
    "GTSRB_Final_Test_Images.zip": gtsrb_test_tree,
    "GTSRB_Final_Test_GT.zip": gtsrb_labels_tree,
    "300K_random_images.npy": lambda folder: make_npy(folder / "300K_random_images.npy"),
    "test_32x32.mat": svhn_tree,
    "dtd-r1.0.1.tar.gz": textures_tree,
    "val_256.tar": places_tree,
    "LSUN.tar.gz": lsun_c_tree,
    "LSUN_resize.tar.gz": lsun_r_tree,
    "iSUN.tar.gz": isun_tree,
}


def contents(folder):
    """Every file below a folder, by its path relative to it."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@cache
def tree(archive):
    """Contents of an archive by path."""
    with tempfile.TemporaryDirectory() as folder:
        TREES[archive](Path(folder))
        return contents(Path(folder))


def folders_of(files):
    """The folders of paths, which real archives list, too."""
    return sorted({f"{parent}/" for name in files for parent in PurePosixPath(name).parents} - {"./"})


def write_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in folders_of(files):
            archive.writestr(zipfile.ZipInfo(name), b"")
        for name, content in files.items():
            info = zipfile.ZipInfo(name)  # its time is that of 1980
            info.external_attr = 0o755 << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)


def write_tar(path, files):
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name in folders_of(files):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(info)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755
            archive.addfile(info, io.BytesIO(content))
    path.write_bytes(gzip.compress(plain.getvalue(), mtime=0) if path.name.endswith("gz") else plain.getvalue())


def make_archives(folder):
    """Write the archives of all cards, in the names of the catalogue."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in TREES:
        files = dict(sorted(tree(name).items()))
        if name.endswith(".zip"):
            write_zip(folder / name, files)
        elif ".tar" in name:
            write_tar(folder / name, files)
        else:
            (folder / name).write_bytes(files[name])


def replaced(card, base_url, folder):
    """A card of the catalogue that points to a server of the archives in a folder, with their sums."""
    archives = (
        replace(archive, url=f"{base_url}/{archive.file}", md5=md5((folder / archive.file).read_bytes()).hexdigest())
        for archive in card.archives
    )
    return replace(card, archives=tuple(archives))


def make_tiny_images(root, count=20, excluded=(3, 20), seed=500):
    """`tiny_images.bin` of noise(count, seed), each record column by column, and a list that counts from 1."""
    folder = root / "80M_Tiny_Images"
    folder.mkdir(parents=True)
    records = (image.flatten(order="F").tobytes() for image in noise(count, seed))
    (folder / "tiny_images.bin").write_bytes(b"".join(records))
    (folder / "80mn_cifar_idxs.txt").write_text("".join(f"{index}\n" for index in excluded))


def make_imagenet32(root, per_file=2, text_keys=True, seed=600):
    """Ten batches, number k of noise(per_file, seed + k) in rows like CIFAR's, with labels from 1 on."""
    folder = root / "imagenet32"
    folder.mkdir(parents=True)
    for number in range(1, 11):
        rows = cifar_rows(noise(per_file, seed + number))
        labels = [1 + (number + index) % 1000 for index in range(per_file)]
        content = {"data": rows, "labels": labels, "mean": rows.mean(0)}
        file = folder / f"train_data_batch_{number}"
        if text_keys:
            file.write_bytes(pickle.dumps(content, protocol=2))
        else:
            write_pickle(file, {key.encode(): value for key, value in content.items()})


if __name__ == "__main__":
    make_archives(Path(sys.argv[1]))
