"""One forward pass of a net over a batch, shared by all detectors that read its logits or their input gradients."""

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor, nn


class ForwardPass:
    """Lazily computed logits of a batch.

    Args:
        net: images -> logits (N, K), frozen by `frozen_eval`.
        images: (N, 3, H, W) in [0, 1]. If they require a gradient, the logits are differentiable in them.
        needs_input_gradient: set if `gradient_sign` will be called: the graph is retained and the same pass gives the
            logits.
    """

    def __init__(self, net: nn.Module, images: Tensor, *, needs_input_gradient: bool = False) -> None:
        self.net, self.images = net, images
        differentiable = torch.is_grad_enabled() and images.requires_grad
        self._logits_from_graph = needs_input_gradient and not differentiable

    @cached_property
    def logits(self) -> Tensor:
        """Logits (N, K)."""
        logits: Tensor = self._graph[1].detach() if self._logits_from_graph else self.net(self.images)
        return logits

    @cached_property
    def _graph(self) -> tuple[Tensor, Tensor]:
        """A copy of the images and its logits, with the graph that connects them."""
        with torch.inference_mode(False), torch.enable_grad():
            x = self.images.detach().clone().requires_grad_(True)
            return x, self.net(x)

    def gradient_sign(self, value: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the sign of the gradient of a function of each image's logits, (N, K) -> (N,), in the images.

        Values in {-1, 0, 1}, shaped like the images.
        """
        x, logits = self._graph
        with torch.inference_mode(False), torch.enable_grad():
            (gradient,) = torch.autograd.grad(value(logits).sum(), x, retain_graph=True)
        return gradient.sign()
