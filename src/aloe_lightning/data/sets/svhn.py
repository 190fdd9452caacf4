"""Street View House Numbers, balanced, as an OOD test set."""

from typing import ClassVar

import numpy as np
import torch

from aloe_lightning.data.images.source import ImageSet, channels_first
from aloe_lightning.data.sets.named import NamedUnlabelledSet
from aloe_lightning.errors import UserError


class SVHN(NamedUnlabelledSet):
    """The first 1,000 test images of each digit."""

    dataset: ClassVar[str] = "svhn"

    def load(self) -> ImageSet:
        """Return the selected images with labels, in the order of the file."""
        from scipy.io import loadmat

        (file,) = self.verified_files("test")
        try:
            content = loadmat(file)
            images, labels = content["X"].transpose(3, 0, 1, 2), content["y"].ravel().astype(np.int64) % 10
            if images.dtype != np.uint8 or images.shape != (len(labels), 32, 32, 3):
                raise ValueError(f"X is {images.dtype} {content['X'].shape} for {len(labels)} labels")
        except Exception as error:  # scipy raises a dozen kinds for a broken .mat
            raise UserError(f"cannot read {file}: truncated or not SVHN's .mat ({error})") from error
        indices = np.sort(np.concatenate([np.flatnonzero(labels == digit)[:1000] for digit in range(10)]))
        self.check_count("images", len(indices), self.card.images["test"])
        return ImageSet(channels_first(images[indices]), torch.from_numpy(labels[indices]))
