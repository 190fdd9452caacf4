"""Tiny data sets in the real formats, made by code; every pixel is a known function of the image's place."""

import pickle
import struct
from typing import ClassVar

import numpy as np
from PIL import Image
from scipy.io import savemat

FOLDERS = {
    "textures": "dtd/images/banded",
    "places365": "places365/test_subset",
    "lsun_c": "LSUN/test",
    "lsun_r": "LSUN_resize/LSUN_resize",
    "isun": "iSUN",
}
CIFAR10_FILES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


class Python2Pickler(pickle._Pickler):
    """Writes bytes as Python 2 wrote its strings: CIFAR's official files come from there, in protocol 2."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_bytes(self, obj):
        self.write(pickle.BINSTRING + struct.pack("<i", len(obj)) + obj)
        self.memoize(obj)

    dispatch[bytes] = save_bytes


def write_pickle(path, content):
    with path.open("wb") as stream:
        Python2Pickler(stream, protocol=2).dump(content)
    path.write_bytes(path.read_bytes().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))


def noise(count, seed):
    """uint8 (count, 32, 32, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def cifar_rows(images):
    """uint8 (N, 32, 32, 3) -> (N, 3072): a red, a green and a blue plane, row by row."""
    return np.concatenate([images[..., channel].reshape(len(images), 1024) for channel in range(3)], axis=1)


def write_cifar_batch(path, images, labels, key=b"labels", more=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [b"picture_%d.png" % index for index in range(len(images))]
    content = {b"batch_label": path.name.encode(), b"data": cifar_rows(images), key: list(labels), b"filenames": names}
    write_pickle(path, content | (more or {}))


def make_cifar10(root, per_file=6):
    """Official layout of CIFAR-10; file k holds noise(per_file, k) with the labels k, k + 1, ... modulo 10."""
    for number, file in enumerate(CIFAR10_FILES, 1):
        labels = [(number + index) % 10 for index in range(per_file)]
        write_cifar_batch(root / "cifar-10-batches-py" / file, noise(per_file, number), labels)


def make_cifar100(root, train=12, test=6):
    """Official layout of CIFAR-100: noise(train, 101) and noise(test, 102), fine labels 99, 98, ..."""
    for file, count, seed in (("train", train, 101), ("test", test, 102)):
        fine = [99 - index for index in range(count)]
        coarse = {b"coarse_labels": [label // 5 for label in fine]}
        write_cifar_batch(root / "cifar-100-python" / file, noise(count, seed), fine, b"fine_labels", coarse)


def make_npy(path, count=20, seed=200):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, noise(count, seed))


def make_pictures(folder, count=4, seed=300):
    """Pictures of odd sizes, PNG and JPEG in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        pixels = np.random.default_rng(seed + index).integers(0, 256, (33 + 7 * index, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:03d}.{('png', 'jpg')[index % 2]}")


def make_svhn(path, labels=(1, 2, 10, 5), seed=400):
    """SVHN's .mat: X (32, 32, 3, N) uint8, y (N, 1) uint8 where 10 means the digit 0."""
    path.parent.mkdir(parents=True, exist_ok=True)
    x = noise(len(labels), seed).transpose(1, 2, 3, 0)
    savemat(path, {"X": x, "y": np.array(labels, dtype=np.uint8)[:, None]})


def make_root(root):
    """All that `+experiment=cifar10` and `+experiment=cifar100` read."""
    make_cifar10(root)
    make_cifar100(root)
    make_npy(root / "300K_random_images.npy")
    make_svhn(root / "svhn" / "test_32x32.mat")
    for place, folder in enumerate(FOLDERS.values()):
        make_pictures(root / folder, seed=300 + 10 * place)
    return root


def overrides(root):
    """Overrides for a root of `make_root`: fewer pictures than the official sets have, other sums."""
    return [f"paths.data={root}", "paths.verify=false"]
