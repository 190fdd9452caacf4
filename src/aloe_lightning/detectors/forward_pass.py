"""One forward pass of a batch, made when first asked for, for all detectors that read the logits of its images."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from aloe_lightning.attacks import attackable, gradient_sign


class ForwardPass:
    """Images and what a net makes of them.

    The first gradient with respect to the images goes back through the pass that gave the logits; further ones make a
    pass of their own, so that no graph is kept for them.

    Args:
        net: images -> logits (N, K); in eval mode during the pass, and left as it was.
        images: (N, 3, H, W) in [0, 1]. If a gradient is to flow to them through the logits, it will.
    """

    def __init__(self, net: nn.Module, images: Tensor) -> None:
        self.net, self.images = net, images
        self._logits: Tensor | None = None
        self._graph: tuple[Tensor, Tensor] | None = None

    @property
    def logits(self) -> Tensor:
        """(N, K)."""
        if self._logits is None:
            with attackable(self.net):
                if torch.is_grad_enabled() and self.images.requires_grad:
                    self._logits = self.net(self.images)
                else:
                    with torch.inference_mode(False), torch.enable_grad():
                        x = self.images.detach().clone().requires_grad_(True)
                        logits = self.net(x)
                    self._logits, self._graph = logits.detach(), (x, logits)
        return self._logits

    def gradient_sign(self, of: Callable[[Tensor], Tensor]) -> Tensor:
        """Sign of the gradient of logits (N, K) -> (N,) with respect to the images: -1, 0 and 1 in their shape."""
        _ = self.logits
        if self._graph is None:
            with attackable(self.net):
                return gradient_sign(self.images, lambda x: of(self.net(x)))
        (x, logits), self._graph = self._graph, None
        with torch.inference_mode(False), torch.enable_grad():
            (gradient,) = torch.autograd.grad(of(logits).sum(), x)
        return gradient.sign()
