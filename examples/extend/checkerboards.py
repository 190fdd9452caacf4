"""An OOD test set in one file: drawn checkerboards. A folder of pictures needs no class: +ood.NAME=/path/to/images.

PYTHONPATH=examples/extend python -m aloe_lightning objective=oe \
        '+ood.boards={_target_: checkerboards.Checkerboards, count: 100}'
"""

from dataclasses import dataclass

import torch

from aloe_lightning.data import ImageSet
from aloe_lightning.signatures.checked import checked
from aloe_lightning.signatures.types import PositiveInt


@checked
@dataclass(frozen=True, kw_only=True)
class Checkerboards:
    """Checkerboards of two random colours with squares of 2 to 8 pixels.

    Attributes:
        count: number of images.
        seed: of the colours and sizes.
    """

    count: PositiveInt = 200
    seed: int = 0

    def load(self) -> ImageSet:
        """Return the images, uint8 (count, 3, 32, 32)."""
        draws = torch.Generator().manual_seed(self.seed)
        colours = torch.randint(256, (self.count, 2, 3, 1, 1), generator=draws, dtype=torch.uint8)
        sizes = torch.randint(2, 9, (self.count, 1, 1), generator=draws)
        places = torch.arange(32)
        odd = ((places.view(1, -1, 1) // sizes + places.view(1, 1, -1) // sizes) % 2).bool().unsqueeze(1)
        return ImageSet(torch.where(odd, colours[:, 0], colours[:, 1]))
