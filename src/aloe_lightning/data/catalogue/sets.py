"""The named data sets: addresses, published MD5 sums, counts and layouts on disk. Imports no torch.

The prose about each set is the docstring of the class that reads it: `python -m aloe_lightning.data show NAME`.
"""

import difflib

from aloe_lightning.data.catalogue.card import GB, Archive, Card
from aloe_lightning.errors import UserError

ERDA = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370"
CIFAR10_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))

CIFAR10 = Card(
    name="cifar10",
    title="CIFAR-10",
    roles=("in-distribution", "OOD test"),
    images={"train": 50_000, "test": 10_000},
    layouts=(tuple(f"cifar-10-batches-py/{file}" for file in (*CIFAR10_TRAIN, "test_batch")),),
    archives=(
        Archive(
            url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            file="cifar-10-python.tar.gz",
            md5="c58f30108f718f92721af3b95e74349a",
            brings=("cifar-10-batches-py",),
        ),
    ),
)
CIFAR100 = Card(
    name="cifar100",
    title="CIFAR-100",
    roles=("in-distribution",),
    images={"train": 50_000, "test": 10_000},
    layouts=(("cifar-100-python/train", "cifar-100-python/test"),),
    archives=(
        Archive(
            url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
            file="cifar-100-python.tar.gz",
            md5="eb9058c3a382ffc7106e4002c42a8d85",
            brings=("cifar-100-python",),
        ),
    ),
)
GTSRB = Card(
    name="gtsrb",
    title="GTSRB",
    roles=("in-distribution",),
    images={"train": 26_640, "test": 12_630},
    layouts=(
        ("gtsrb/GTSRB/Training", "gtsrb/GTSRB/Final_Test/Images", "gtsrb/GT-final_test.csv"),
        ("gtsrb/train.p", "gtsrb/valid.p", "gtsrb/test.p"),
    ),
    archives=(
        Archive(
            url=f"{ERDA}/GTSRB-Training_fixed.zip",
            file="GTSRB-Training_fixed.zip",
            md5="513f3c79a4c5141765e10e952eaa2478",
            into="gtsrb",
            brings=("gtsrb/GTSRB/Training",),
        ),
        Archive(
            url=f"{ERDA}/GTSRB_Final_Test_Images.zip",
            file="GTSRB_Final_Test_Images.zip",
            md5="c7e4e6327067d32654124b0fe9e82185",
            into="gtsrb",
            brings=("gtsrb/GTSRB/Final_Test/Images",),
        ),
        Archive(
            url=f"{ERDA}/GTSRB_Final_Test_GT.zip",
            file="GTSRB_Final_Test_GT.zip",
            md5="fe31e9c9270bbcd7b84b7f21a9d9d9e5",
            into="gtsrb",
            brings=("gtsrb/GT-final_test.csv",),
        ),
    ),
)
RANDOM_IMAGES_300K = Card(
    name="random_images_300k",
    title="300K Random Images",
    roles=("outliers",),
    images={"train": 300_000},
    layouts=(("300K_random_images.npy",),),
    archives=(
        Archive(
            url="https://people.eecs.berkeley.edu/~hendrycks/300K_random_images.npy",
            file="300K_random_images.npy",
            md5="64ca64357de98351f28454274a112dc3",
            brings=("300K_random_images.npy",),
        ),
    ),
)
TINY_IMAGES = Card(
    name="tiny_images",
    title="80 Million Tiny Images",
    roles=("outliers",),
    images={"train": 79_302_017},
    layouts=(("80M_Tiny_Images/tiny_images.bin", "80M_Tiny_Images/80mn_cifar_idxs.txt"),),
    by_hand="its creators withdrew it in 2020 and ask that copies be deleted, so it is not fetched; whoever may still "
    "use a copy puts tiny_images.bin and 80mn_cifar_idxs.txt into 80M_Tiny_Images/ under the data root; everybody "
    "else trains with outliers=random_images_300k",
)
IMAGENET32 = Card(
    name="imagenet32",
    title="ImageNet 32x32",
    roles=("outliers",),
    images={"train": 1_281_167},
    layouts=(
        tuple(f"imagenet32/train_data_batch_{part}" for part in range(1, 11)),
        tuple(f"imagenet32/train_data_batch_{part}.npz" for part in range(1, 11)),
    ),
    by_hand="its terms want a login: download Imagenet32_train from https://image-net.org/download-images.php and put "
    "train_data_batch_1 to train_data_batch_10 (or the .npz files) into imagenet32/ under the data root",
)
SVHN = Card(
    name="svhn",
    title="SVHN",
    roles=("OOD test",),
    images={"test": 10_000},
    layouts=(("svhn/test_32x32.mat",),),
    archives=(
        Archive(
            url="http://ufldl.stanford.edu/housenumbers/test_32x32.mat",
            file="test_32x32.mat",
            md5="eb5a983be6a315427106f1b164d9cef3",
            into="svhn",
            brings=("svhn/test_32x32.mat",),
        ),
    ),
)
TEXTURES = Card(
    name="textures",
    title="Textures (DTD)",
    roles=("OOD test",),
    images={"test": 5_640},
    layouts=(("dtd/images",),),
    archives=(
        Archive(
            url="https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",
            file="dtd-r1.0.1.tar.gz",
            md5="fff73e5086ae6bdbea199a49dfb8a4c1",
            brings=("dtd/images", "dtd/labels"),
        ),
    ),
)
PLACES365 = Card(
    name="places365",
    title="Places365",
    roles=("OOD test",),
    images={"test": 10_000},
    layouts=(("places365/test_subset",), ("places365/val_256",), ("places365/test_256",)),
    archives=(
        Archive(
            url="http://data.csail.mit.edu/places/places365/val_256.tar",
            file="val_256.tar",
            md5="e27b17d8d44f4af9a78502beb927f808",
            into="places365",
            brings=("places365/val_256",),
            limit=6 * GB,
        ),
    ),
)
LSUN_C = Card(
    name="lsun_c",
    title="LSUN (crop)",
    roles=("OOD test",),
    images={"test": 10_000},
    layouts=(("LSUN/test",),),
    archives=(
        Archive(
            url="https://www.dropbox.com/s/fhtsw1m3qxlwj6h/LSUN.tar.gz?dl=1",
            file="LSUN.tar.gz",
            md5="458a0a0ab8e5f1cb4516d7400568e460",
            brings=("LSUN",),
        ),
    ),
)
LSUN_R = Card(
    name="lsun_r",
    title="LSUN (resize)",
    roles=("OOD test",),
    images={"test": 10_000},
    layouts=(("LSUN_resize/LSUN_resize",),),
    archives=(
        Archive(
            url="https://www.dropbox.com/s/moqh2wh8696c3yl/LSUN_resize.tar.gz?dl=1",
            file="LSUN_resize.tar.gz",
            md5="278b7b31c8cb7e804a1465a8ce03a2dc",
            brings=("LSUN_resize",),
        ),
    ),
)
ISUN = Card(
    name="isun",
    title="iSUN",
    roles=("OOD test",),
    images={"test": 8_925},
    layouts=(("iSUN",),),
    archives=(
        Archive(
            url="https://www.dropbox.com/s/ssz7qxfqae0cca5/iSUN.tar.gz?dl=1",
            file="iSUN.tar.gz",
            md5="be77b0f2c26fda898afac5f99645ee70",
            brings=("iSUN",),
        ),
    ),
)

CARDS = {
    card.name: card
    for card in (
        *(CIFAR10, CIFAR100, GTSRB, RANDOM_IMAGES_300K, TINY_IMAGES, IMAGENET32),
        *(SVHN, TEXTURES, PLACES365, LSUN_C, LSUN_R, ISUN),
    )
}


def card_of(name: str) -> Card:
    """The card of a set by its name, or by the folder that its authors ship it in (`dtd`).

    Raises:
        UserError: naming the nearest set.
    """
    for card in CARDS.values():
        if name == card.name or name in {path.split("/")[0] for paths in card.layouts for path in paths}:
            return card
    close = difflib.get_close_matches(name, CARDS, n=1, cutoff=0.5)
    hint = f", did you mean {close[0]!r}?" if close else ""
    raise UserError(
        f"no data set called {name!r}{hint or '.'} Known: {', '.join(CARDS)}; or a path to images of your own"
    )
