"""The zoo: nets trained to the end, installed with the package; nothing is downloaded.

`load("NAME")` returns a net, `card("NAME")` its training and its results, `list()` the names. On the command line
`checkpoint=zoo:NAME` evaluates a net, and `python -m aloe_lightning.zoo` lists and checks them.
"""

from typing import TYPE_CHECKING

from aloe_lightning.storage.zoo import zoo_card as card
from aloe_lightning.storage.zoo import zoo_names as list
from aloe_lightning.storage.zoo import zoo_weights

if TYPE_CHECKING:
    from torch import nn

__all__ = ["card", "list", "load"]

IMAGE_SIZE = 32
"""Height and width of the images that all nets of the zoo were trained on."""


def load(name: str) -> "nn.Module":
    """Return a net of the zoo on the CPU, in eval mode and float32: images (N, 3, 32, 32) in [0, 1] to logits (N, K).

    The net states its size of images, so that `robustness.evaluate` measures it at no other one.

    Raises:
        UserError: if there is no such net, or its file is damaged.
    """
    from aloe_lightning.config.build import build
    from aloe_lightning.storage.weights import load_weights

    file = zoo_weights(name)
    net: nn.Module = build(card(name)["net"], f"{name} of the zoo")
    load_weights(file, net)
    net.image_size = IMAGE_SIZE  # type: ignore[assignment]
    return net.eval()
