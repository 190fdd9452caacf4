"""Every reader of files, each with a function that writes a right file: for tests that damage it."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch import nn

from aloe_lightning.config.migration import migrate
from aloe_lightning.data import CIFAR10, CIFAR100, GTSRB, SVHN, ImageFolder, ImageNet32, NpyImages, TinyImages
from aloe_lightning.data.images.duplicates import set_hashes
from aloe_lightning.data.images.files import from_cache, read_image
from aloe_lightning.data.images.source import ImageSet
from aloe_lightning.data.sets.custom import channel_statistics, read_arrays
from aloe_lightning.detectors import MahalanobisLast
from aloe_lightning.detectors.cache import read_fitted, write_fitted
from aloe_lightning.evaluation.examples import Examples, load_examples, save_examples
from aloe_lightning.evaluation.records import Record, read_records, write_records
from aloe_lightning.evaluation.scores import Scores
from aloe_lightning.nets import SmallNet
from aloe_lightning.nets.saved import load_program
from aloe_lightning.report.leaderboard import ENTRY, Entry
from aloe_lightning.robustness.result import Result
from aloe_lightning.storage import zoo
from aloe_lightning.storage.batches import BatchStore
from aloe_lightning.storage.cache import cache_folder, content_hash
from aloe_lightning.storage.cells import facts_of
from aloe_lightning.storage.files import write_json
from aloe_lightning.storage.models import TrainedModel
from aloe_lightning.storage.weights import load_weights, save_weights
from aloe_lightning.training.trainer import saved_state
from data.archives import make_imagenet32, make_tiny_images
from data.fakes import make_cifar10, make_cifar100, make_npy, make_svhn, noise


class Reader(NamedTuple):
    """Writes a right file below a folder and returns its path; reads it.

    Attributes:
        write: (folder) -> the file.
        read: (folder, file) -> the content.
        refuses: damage can be noticed and is an error; else the file counts as absent, or any content is right.
    """

    write: Callable[[Path], Path]
    read: Callable[[Path, Path], Any]
    refuses: bool = True


def named(make: Callable[[Path], object], path: str, read: Callable[[Path], Any], refuses: bool = True) -> Reader:
    """A file of a named set: `make` writes the whole set below the data root."""

    def write(folder: Path) -> Path:
        make(folder)
        return folder / path

    return Reader(write, lambda folder, _: read(folder), refuses)


def single(name: str, make: Callable[[Path], object], read: Callable[[Path], Any], refuses: bool = True) -> Reader:
    """A file that is read by its path."""

    def write(folder: Path) -> Path:
        make(folder / name)
        return folder / name

    return Reader(write, lambda _, file: read(file), refuses)


def picture(name: str, mode: str = "RGB") -> Reader:
    """A picture file of one of the formats."""
    (pixels,) = noise(1, 7)
    return single(name, lambda file: Image.fromarray(pixels).convert(mode).save(file), read_image)


def gtsrb(folder: Path) -> GTSRB:
    return GTSRB(root=str(folder), augment="none", validation=0.0, max_test=None, verify=False)


def make_signs(folder: Path) -> None:
    """Torchvision's layout with two pictures of each split."""
    places = ("Training/00000/00000_00000", "Training/00001/00001_00000", "Final_Test/Images/0", "Final_Test/Images/1")
    for place in places:
        file = folder / "gtsrb" / "GTSRB" / f"{place}.ppm"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(1, 8)[0]).save(file)
    (folder / "gtsrb" / "GT-final_test.csv").write_text("Filename;ClassId\n0.ppm;4\n1.ppm;17\n")


def make_udacity(folder: Path) -> None:
    (folder / "gtsrb").mkdir()
    for split in ("train", "valid", "test"):
        content = {"features": noise(2, 9), "labels": np.array([3, 4], np.uint8)}
        (folder / "gtsrb" / f"{split}.p").write_bytes(pickle.dumps(content, protocol=3))


def net() -> SmallNet:
    torch.manual_seed(0)
    return SmallNet(3, width=8)


def program() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(2 * 30 * 30, 3)).eval()


def make_fit(file: Path) -> None:
    fit = MahalanobisLast().from_state(net(), {"ridge": 0.1}, {"mean": torch.zeros(3, 4), "precision": torch.eye(4)})
    write_fitted(file.parent, file.stem, fit)


def read_fit(file: Path) -> Any:
    return read_fitted(file.parent, file.stem, MahalanobisLast(), net())


def images_with_identity(folder: Path) -> ImageSet:
    """Images whose statistics and hashes the cache keeps."""
    return ImageSet(torch.from_numpy(noise(3, 4)).permute(0, 3, 1, 2), identity=str(folder))


def of_cache(name: str, what: str, read: Callable[[ImageSet], Any]) -> Reader:
    """A file of the cache, which is made by its first use."""

    def write(folder: Path) -> Path:
        read(images_with_identity(folder))
        return cache_folder() / name.format(content_hash(what, str(folder)))

    return Reader(write, lambda folder, _: read(images_with_identity(folder)))


def make_examples(file: Path) -> None:
    two = np.arange(2)
    images = np.zeros((2, 3, 4, 4))
    pixels = (images.astype(np.uint8), images.astype(np.float32))
    found = Examples(two.astype(str), two, *pixels, two / 2, two / 4, two / 8)
    save_examples({("msp", "id"): found}, file.parent)


def make_batch(folder: Path) -> Path:
    store = BatchStore(folder, {})
    store.write("id", 0, 5, {"indices": np.arange(9)})
    return store.folder / "id-000000.npz"


def make_entry(file: Path) -> None:
    numbers = [
        {"detector": "msp", "ood": "far", "side": side, "metric": "auroc", "value": 0.5, "low": None, "high": None}
        for side in ("none", "both")
    ]
    facts = {
        "net": "small",
        "norm": "linf",
        "epsilon": 8.0,
        "sides": ["none", "both"],
        "attack": "PGD",
        "size": "32x32",
    }
    facts |= {"kinds": {"msp": "adaptive"}, "counts": {"id": 4, "far": 3}, "data": {"id": "a1", "far": "b2"}}
    Entry(**facts, weights="01", seed=0, accuracy=0.8, detectors={}, numbers=numbers).write(file)


def make_result(file: Path) -> None:
    make_scores(file.with_name("scores.npz"))
    write_json(file, {"accuracy": 0.5, "labelled": 4, "sides": ["none"], "settings": {"seed": 0}, "notes": []})


def make_scores(file: Path) -> None:
    Scores({("msp", "id", "clean"): np.arange(40.0), ("msp", "a/b", "attacked"): np.arange(3.0)}).save(file)


def make_records(file: Path) -> None:
    cell = {"dataset": "demo", "outliers": "", "net": "small", "objective": "oe", "objective_title": "OE", "seed": 0}
    cell |= {"train_epsilon": None, "eval_epsilon": 1.0, "regime": "paper", "attack": "PGD", "protocol": "01"}
    place = {"detector": "msp", "detector_title": "MSP", "detector_settings": "", "side": "none", "ood": "far"}
    record = Record(**cell, **place, num_id=4, num_ood=3, metric="auroc", value=0.5)
    write_records(file, [record, record])


def make_model(file: Path) -> None:
    facts = {"seconds": 1.0, "steps": 2, "trained_on": ["a", "b"], "sizes": {"train": 3}, "config": {"seed": 0}}
    write_json(file, {**facts, "step": 1, "precision": "32-true", "reason": "a test", "cell": "oe"})


def make_state(file: Path) -> None:
    torch.save({"global_step": 3, "state_dict": net().state_dict(), "loops": {"a": [1, {"b": 2.0}]}}, file)


def make_exported(file: Path) -> None:
    batch = torch.export.Dim("batch", min=1, max=64)
    torch.export.save(torch.export.export(program(), (torch.zeros(2, 3, 32, 32),), dynamic_shapes=[{0: batch}]), file)


def migrated(file: Path) -> None:
    """Migrate a copy, because migration renames the folder of the net."""
    outputs = file.parent / "outputs"
    shutil.rmtree(outputs, ignore_errors=True)
    (outputs / "models" / "net").mkdir(parents=True)
    shutil.copy(file, outputs / "models" / "net" / "model.json")
    migrate(outputs)


def loaded(file: Path) -> nn.Module:
    load_weights(file, model := net())
    return model


def zoo_file(suffix: str) -> Reader:
    """A file of the first net of the zoo, in another folder."""

    def write(folder: Path) -> Path:
        for file in zoo.FOLDER.glob(f"{zoo.zoo_names()[0]}.*"):
            shutil.copy(file, folder)
        return folder / f"{zoo.zoo_names()[0]}{suffix}"

    def read(folder: Path, file: Path) -> Any:
        with patch.object(zoo, "FOLDER", folder):
            return zoo.zoo_weights(file.stem)

    return Reader(write, read)


def labelled(file: Path) -> None:
    np.savez(file, images=noise(4, 3), labels=np.arange(4) % 2)


OLD = Path(__file__).parents[1] / "config/version_0_1/outputs/models/demo-oe-seed0-746e1e70/model.json"
READERS = {
    "CIFAR-10": named(
        lambda root: make_cifar10(root, per_file=2),
        "cifar-10-batches-py/test_batch",
        lambda root: CIFAR10(root=str(root), verify=False).test_set(),
    ),
    "CIFAR-100": named(
        make_cifar100, "cifar-100-python/test", lambda root: CIFAR100(root=str(root), verify=False).test_set()
    ),
    "GTSRB table": named(make_signs, "gtsrb/GT-final_test.csv", lambda root: gtsrb(root).test_set()),
    "GTSRB picture": named(
        make_signs, "gtsrb/GTSRB/Training/00001/00001_00000.ppm", lambda root: gtsrb(root).train_set()
    ),
    "GTSRB of Udacity": named(make_udacity, "gtsrb/test.p", lambda root: gtsrb(root).test_set()),
    "SVHN": named(
        lambda root: make_svhn(root / "svhn" / "test_32x32.mat"),
        "svhn/test_32x32.mat",
        lambda root: SVHN(root=str(root), verify=False).load(),
    ),
    "80M Tiny Images": named(
        lambda root: make_tiny_images(root, excluded=(3,)),
        "80M_Tiny_Images/tiny_images.bin",
        lambda root: TinyImages(root=str(root), verify=False).load(),
    ),
    "exclusion list": named(
        make_tiny_images,
        "80M_Tiny_Images/80mn_cifar_idxs.txt",
        lambda root: TinyImages(root=str(root), verify=False).load(),
        False,
    ),
    "ImageNet 32x32": named(
        make_imagenet32,
        "imagenet32/train_data_batch_3",
        lambda root: ImageNet32(root=str(root), verify=False).load(),
    ),
    "folder of pictures": named(
        lambda root: Image.fromarray(noise(1, 7)[0]).save(root / "a.png"),
        "a.png",
        lambda root: ImageFolder(path=str(root)).load(),
    ),
    "outliers.npy": single("outliers.npy", make_npy, lambda file: NpyImages(path=str(file)).load()),
    "labelled.npz": single("labelled.npz", labelled, read_arrays),
    **{name: picture(name) for name in ("a.png", "a.jpg", "a.bmp", "a.tif", "a.webp", "a.ppm")},
    "a.gif": picture("a.gif", "P"),
    "a.pgm": picture("a.pgm", "L"),
    "pictures in the cache": single("pictures.npy", make_npy, from_cache),
    "statistics in the cache": of_cache("statistics/{}.json", "channels", channel_statistics),
    "hashes in the cache": of_cache("duplicates/{}.npy", "exact", set_hashes),
    "weights.safetensors": single("weights.safetensors", lambda file: save_weights(file, net(), {"seed": 0}), loaded),
    "weights.pt": single("weights.pt", lambda file: torch.save({"state_dict": net().state_dict()}, file), loaded),
    "weights of torch before 1.6": single(
        "old.pt", lambda file: torch.save(net().state_dict(), file, _use_new_zipfile_serialization=False), loaded
    ),
    "TorchScript": single("net.ts", lambda file: torch.jit.script(program()).save(file), load_program),
    "torch.export": single("net.pt2", make_exported, load_program),
    "state of a training": single(
        "last.ckpt", make_state, lambda file: str(saved_state(TrainedModel(file.parent), torch.device("cpu"))), False
    ),
    "records.jsonl": single("records.jsonl", make_records, read_records),
    "scores.npz": single("scores.npz", make_scores, Scores.load),
    "model.json": single("model.json", make_model, lambda file: TrainedModel(file.parent).metadata, False),
    "versions.json": single("versions.json", make_model, lambda file: facts_of(file.parent), False),
    "model.json of version 0.1": single(
        "old.json", lambda file: shutil.copy(OLD, file), lambda file: str(migrated(file)), False
    ),
    "stored batch": Reader(make_batch, lambda folder, _: str(BatchStore(folder, {}).read("id", 0, 5)), False),
    "examples.npz": single("examples.npz", make_examples, lambda file: load_examples(file.parent), False),
    "settings of a fit": single("fit.json", make_fit, read_fit),
    "tensors of a fit": Reader(
        lambda folder: make_fit(folder / "fit.json") or folder / "fit.safetensors", lambda _, file: read_fit(file)
    ),
    "result.json": single("result.json", make_result, lambda file: Result.load(file.parent)),
    "leaderboard entry": single(ENTRY, make_entry, Entry.read),
    "weights of the zoo": zoo_file(".safetensors"),
    "card of the zoo": zoo_file(".json"),
}
"""By name; an error names the file, or its folder and stem where two files belong together."""
