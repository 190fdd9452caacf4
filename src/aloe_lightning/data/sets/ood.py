"""The paper's OOD test sets. Every image is 32x32, in sorted order of its file name, and none is ever trained on."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from scipy.io import loadmat

from aloe_lightning.data.catalogue import sets as catalogue
from aloe_lightning.data.images.files import Fit, pictures_in, read_pictures
from aloe_lightning.data.images.integrity import require_files
from aloe_lightning.data.images.source import ImageSet, MappedImages, channels_first
from aloe_lightning.data.sets.cifar import CIFAR
from aloe_lightning.data.sets.named import NamedSet
from aloe_lightning.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Pictures(NamedSet):
    """A named set that is a folder of picture files.

    Attributes:
        fit: how a picture that is not 32x32 becomes so.
    """

    fit: ClassVar[Fit] = "cover"

    def load(self) -> MappedImages:
        """All pictures, or the frozen sample of them; decoded once, then from the cache."""
        folder = self.place()[0]
        files = self.select(pictures_in(folder), folder)
        self.expect("images", len(files), self.card.images["test"])
        if not files:
            remedy = f"remove it, then {self.card.remedy(self.folder)}"
            raise UserError(f"{self.card.title}: no images in {folder}: {remedy}")
        return read_pictures(files, folder, self.fit)

    def select(self, files: list[Path], folder: Path) -> list[Path]:
        """Which of the folder's pictures belong to the test set; all, unless a set says otherwise."""
        return files


class Textures(Pictures):
    """Describable Textures Dataset (DTD), all of it.

    Images: 5,640 of 300 to 640 pixels a side; short side resized to 32, centre-cropped.
    Classes: 47 describable textures, 120 images each; not used.
    Split: train, validation and test together, as in the paper.
    Source: https://www.robots.ox.ac.uk/~vgg/data/dtd/ (625 MB), in `dtd/images/<class>/`.
    Terms: for research purposes.
    Citation: Cimpoi, Maji, Kokkinos, Mohamed, Vedaldi: Describing Textures in the Wild, CVPR 2014.
    """

    card = catalogue.TEXTURES


class Places365(Pictures):
    """Places365, a sample of its scenes.

    Images: 10,000 of 256 pixels a side; short side resized to 32, centre-cropped.
    Classes: 365 kinds of scene; not used.
    Split: the paper drew from the 328,500 test images and published no list. `places365/test_subset/` is used as it
        is where it stands; else, of `places365/val_256/` (36,500 images, what is fetched) or `places365/test_256/`,
        the 10,000 whose file names have the smallest SHA-256: a sample frozen without a list.
    Source: http://data.csail.mit.edu/places/places365/val_256.tar (2.2 GB).
    Terms: images for non-commercial research and education.
    Citation: Zhou, Lapedriza, Khosla, Oliva, Torralba: Places: A 10 Million Image Database for Scene Recognition,
        TPAMI 2018.
    """

    card = catalogue.PLACES365

    def select(self, files: list[Path], folder: Path) -> list[Path]:
        """The frozen sample."""
        if folder.name == "test_subset":
            return files
        drawn = sorted(files, key=lambda file: hashlib.sha256(file.name.encode()).digest())
        return sorted(drawn[: self.card.images["test"]])


class LSUNCrop(Pictures):
    """LSUN (crop), LSUN-C: patches cut out of scenes.

    Images: 10,000, cut at random by the authors of ODIN; a picture that is larger than 32x32 is centre-cropped, never
        resized.
    Classes: 10 kinds of scene; not used.
    Split: of LSUN's test images.
    Source: the archive of ODIN's authors (https://github.com/facebookresearch/odin), in `LSUN/test/`.
    Terms: LSUN states none; for research.
    Citation: Yu et al.: LSUN, arXiv:1506.03365, 2015; Liang, Li, Srikant: Enhancing the Reliability of
        Out-of-distribution Image Detection in Neural Networks, ICLR 2018.
    """

    card = catalogue.LSUN_C
    fit = "crop"


class LSUNResize(Pictures):
    """LSUN (resize), LSUN-R: whole scenes made small.

    Images: 10,000 of 32x32, downsampled by the authors of ODIN without antialiasing: their artefacts make the set
        easier than scenes resized with care.
    Classes: 10 kinds of scene; not used.
    Split: LSUN's test images.
    Source: the archive of ODIN's authors (https://github.com/facebookresearch/odin), in `LSUN_resize/LSUN_resize/`.
    Terms: LSUN states none; for research.
    Citation: Yu et al.: LSUN, arXiv:1506.03365, 2015; Liang, Li, Srikant, ICLR 2018.
    """

    card = catalogue.LSUN_R


class ISUN(Pictures):
    """The iSUN set: photographs of the SUN database made small.

    Images: 8,925 of 32x32, downsampled by the authors of ODIN, with the artefacts of LSUN-R.
    Classes: none.
    Split: all images.
    Source: the archive of ODIN's authors (https://github.com/facebookresearch/odin), in `iSUN/`.
    Terms: iSUN states none; for research.
    Citation: Xu et al.: TurkerGaze: Crowdsourcing Saliency with Webcam based Eye Tracking, arXiv:1504.06755, 2015.
    """

    card = catalogue.ISUN


@dataclass(frozen=True, kw_only=True)
class SVHN(NamedSet):
    """Street View House Numbers, balanced.

    Images: 10,000 of 32x32.
    Classes: the digits 0 to 9, 1,000 images each.
    Split: the first 1,000 of each class among the 26,032 test images, in the order of the file.
    Source: http://ufldl.stanford.edu/housenumbers/test_32x32.mat (64 MB), in `svhn/`.
    Terms: for non-commercial use.
    Citation: Netzer, Wang, Coates, Bissacco, Wu, Ng: Reading Digits in Natural Images with Unsupervised Feature
        Learning, NIPS Workshop on Deep Learning and Unsupervised Feature Learning 2011.
    """

    card = catalogue.SVHN

    def load(self) -> ImageSet:
        """The selected images with labels, in the order of the file."""
        (file,) = self.place()
        sums = {file.name: str(self.card.archives[0].md5)}
        require_files(self.card.title, file.parent, sums, verify=self.verify, remedy=self.card.remedy(self.folder))
        try:
            content = loadmat(file)
            images, labels = content["X"].transpose(3, 0, 1, 2), content["y"].ravel().astype(np.int64) % 10
            if images.dtype != np.uint8 or images.shape != (len(labels), 32, 32, 3):
                raise ValueError(f"X is {images.dtype} {content['X'].shape} beside {len(labels)} labels")
        except Exception as error:  # scipy raises a dozen kinds for a broken .mat
            raise UserError(f"cannot read {file}: truncated or not SVHN's .mat ({error})") from error
        chosen = np.sort(np.concatenate([np.flatnonzero(labels == digit)[:1000] for digit in range(10)]))
        self.expect("images", len(chosen), self.card.images["test"])
        return ImageSet(channels_first(images[chosen]), torch.from_numpy(labels[chosen]))


@dataclass(frozen=True, kw_only=True)
class CIFAROOD:
    """The test images of CIFAR-10 (or CIFAR-100) as an OOD test set: what is in distribution elsewhere.

    Images: 10,000 of 32x32, in the official order. See `CIFAR` for source, terms and citation.

    Attributes:
        root: the data root.
        num_classes: 10 or 100.
        verify: compare the files with the official MD5 sums.
    """

    root: str
    num_classes: int = 10
    verify: bool = True

    def load(self) -> ImageSet:
        """The test images with labels."""
        no_net = (0.0, 0.0, 0.0)
        cifar = CIFAR(
            name="", root=self.root, num_classes=self.num_classes, mean=no_net, std=no_net, verify=self.verify
        )
        return cifar.test_set()
