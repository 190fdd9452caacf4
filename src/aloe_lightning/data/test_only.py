"""Data for the evaluation of a given net: test images without training images, and no outliers."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, NoReturn

from aloe_lightning.data.images.files import is_hidden
from aloe_lightning.errors import UserError
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import Channels, PositiveInt, Text


@checked
class TestFolder:
    """In-distribution test images of a net that is given; nothing is trained.

    Args:
        test: folder of pictures; with a sub-folder for each class of the net, in the order of their names, the clean
            accuracy is computed.
        train: folder of training pictures in the same form, for detectors that are fitted; null for none.
        size: height and width that pictures are resized to; null for those of the net, or of the pictures.
        num_classes: number of classes of the net; null for the number of sub-folders, if any.
        mean: channel means in [0, 1], for a net that does not state its normalisation; null for none.
        std: channel standard deviations, likewise.
    """

    __test__: ClassVar[bool] = False
    has_training_images: ClassVar[bool] = False
    split: ClassVar[str] = "test"

    def __init__(
        self,
        *,
        test: Text,
        train: Text | None = None,
        size: PositiveInt | None = None,
        num_classes: PositiveInt | None = None,
        mean: Channels | None = None,
        std: Channels | None = None,
    ) -> None:
        self.test, self.train, self.size = test, train, size
        self._given_classes = num_classes
        self.mean: Sequence[float] | None = mean
        self.std: Sequence[float] | None = std

    @property
    def num_classes(self) -> int | None:
        """The given number of classes, or the number of sub-folders if there are two or more."""
        folder = Path(self.test).expanduser()
        if not folder.is_dir():
            raise UserError(f"data.test: no folder of images at {folder.absolute()}: correct the path")
        count = sum(entry.is_dir() and not is_hidden(entry.name) for entry in folder.iterdir())
        return self._given_classes or (count if count > 1 else None)


class NoOutliers:
    """No auxiliary outliers."""

    def load(self) -> NoReturn:
        """Raise UserError: something needs outliers."""
        raise UserError("outliers are required but none are given: choose outliers=")
