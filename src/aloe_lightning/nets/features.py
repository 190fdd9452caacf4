"""Features of any net: the input of its last linear layer, or named layers by torchvision's feature extraction."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from aloe_lightning.errors import UserError
from aloe_lightning.nets.classifier import Classifier


class LastLayer(NamedTuple):
    """One forward pass through a net whose last operation is a linear layer.

    Attributes:
        features: input of that layer (N, C), the last pooled features.
        logits: output of the net (N, K).
        weight: weights of the layer for these logits (K, C).
        bias: its bias (K,); None if it has none.
    """

    features: Tensor
    logits: Tensor
    weight: Tensor
    bias: Tensor | None


def last_layer(net: nn.Module, images: Tensor) -> LastLayer:
    """Run a net on images (N, 3, H, W) and return the input of its last linear layer, differentiable in the images.

    The logits may be the first outputs of the layer, as those of a net with a rejection class are.

    Raises:
        UserError: if the logits are not the output of a linear layer, as in a compiled or traced net.
    """
    calls: list[tuple[nn.Linear, Tensor, Tensor]] = []

    def remember(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        assert isinstance(layer, nn.Linear)
        calls.append((layer, inputs[0], output))

    handles = [layer.register_forward_hook(remember) for layer in net.modules() if isinstance(layer, nn.Linear)]
    try:
        logits: Tensor = net(images)
    finally:
        for handle in handles:
            handle.remove()
    count = logits.shape[-1]
    is_linear = bool(calls) and calls[-1][1].ndim == logits.ndim == 2
    if not is_linear or not (calls[-1][2] is logits or torch.equal(calls[-1][2][:, :count], logits)):
        raise UserError(
            f"the logits of {type(net).__name__} are not the output of a torch.nn.Linear of pooled features, so this "
            "detector cannot be had on it: name layers for Mahalanobis, or use detectors that read logits"
        )
    layer, features, _ = calls[-1]
    return LastLayer(features, logits, layer.weight[:count], None if layer.bias is None else layer.bias[:count])


class WithFeatures(Classifier):
    """A net from outside, with features.

    Args:
        net: images (N, 3, H, W) in [0, 1] to logits (N, K).
        layers: names of its layers, in the node names of `torchvision.models.feature_extraction`; none: the input of
            the last linear layer.

    Raises:
        UserError: if the net cannot be traced, or has no such layer.
    """

    def __init__(self, net: nn.Module, layers: Sequence[str] = ()) -> None:
        super().__init__()
        self.net, self.layers = net, list(layers)
        self._extractors: dict[str, nn.Module] = {}
        if self.layers:
            self._extractors["layers"] = _extractor(net, self.layers)  # a dict: its parameters are the net's

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, K)."""
        logits: Tensor = self.net(images)
        return logits

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the features of each layer, averaged over pixels or tokens: (N, C_l)."""
        if not self.layers:
            return [last_layer(self.net, images).features]
        maps = self._extractors["layers"](images)
        return [_pooled(maps[name], name) for name in self.layers]


def with_features(net: nn.Module, layers: Sequence[str] = ()) -> Classifier:
    """Return a net that has features: itself if it is a `Classifier` and no layers are named."""
    return net if isinstance(net, Classifier) and not layers else WithFeatures(net, layers)


def _pooled(values: Tensor, name: str) -> Tensor:
    """Return channel means: of maps (N, C, H, W) over pixels, of tokens (N, T, C) over tokens."""
    if values.ndim not in (2, 3, 4):
        raise UserError(f"the layer {name} gives {tuple(values.shape)}: no maps, tokens or vectors of each image")
    return values.mean((2, 3)) if values.ndim == 4 else values.mean(1) if values.ndim == 3 else values


def _extractor(net: nn.Module, layers: Sequence[str]) -> nn.Module:
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    try:
        known = get_graph_node_names(net.eval())[1]
    except Exception as error:  # torch.fx raises anything about control flow that it cannot trace
        raise UserError(
            f"torchvision's feature extraction cannot trace {type(net).__name__} ({str(error).splitlines()[0]}): "
            "give no layers for the last pooled features, or make the net a Classifier with a method features"
        ) from error
    unknown = [name for name in layers if not any(node == name or node.startswith(f"{name}.") for node in known)]
    if unknown:
        listed = ", ".join([*known[:3], "...", *known[-5:]])
        raise UserError(f"{type(net).__name__} has no layer {unknown[0]!r}; layers are {listed}")
    extractor: nn.Module = create_feature_extractor(net, list(layers))
    return extractor.eval()
