"""What a net makes of a batch, computed when first asked for, for all detectors that read the logits of its images."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from aloe_lightning.attacks import frozen_eval, gradient_sign


class ForwardPass:
    """Images and their logits.

    A gradient with respect to the images takes a pass that gives the logits, too: who wants one asks first.

    Args:
        net: images -> logits (N, K); in eval mode during a pass, and left as it was.
        images: (N, 3, H, W) in [0, 1]. If a gradient is to flow to them through the logits, it will.
    """

    def __init__(self, net: nn.Module, images: Tensor) -> None:
        self.net, self.images = net, images
        self._flows = torch.is_grad_enabled() and images.requires_grad
        self._logits: Tensor | None = None

    @property
    def logits(self) -> Tensor:
        """(N, K)."""
        if self._logits is None:
            with frozen_eval(self.net):
                self._logits = self.net(self.images)
        return self._logits

    def gradient_sign(self, of: Callable[[Tensor], Tensor]) -> Tensor:
        """Sign of the gradient of logits (N, K) -> (N,) with respect to the images: -1, 0 and 1 in their shape."""

        def loss(x: Tensor) -> Tensor:
            logits: Tensor = self.net(x)
            if self._logits is None and not self._flows:
                self._logits = logits.detach()
            return of(logits)

        with frozen_eval(self.net):
            return gradient_sign(self.images, loss)
