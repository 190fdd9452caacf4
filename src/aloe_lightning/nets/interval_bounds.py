"""Guaranteed bounds of a net's confidence in an Linf ball, by interval propagation (Gowal et al., arXiv:1810.12715).

Each operation maps an interval of each value to one that holds all its results. Intervals grow with every layer: bounds
of a deep net, or of one that was not trained for them, say nothing.
"""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from aloe_lightning.nets.classifier import Normalize


class Interval(NamedTuple):
    """Lower and upper bounds of tensors, of equal shape, float64."""

    lower: Tensor
    upper: Tensor

    @property
    def middle_and_radius(self) -> tuple[Tensor, Tensor]:
        """Middle of the interval, and half of its width."""
        return (self.lower + self.upper) / 2, (self.upper - self.lower) / 2


class Unbounded(Exception):
    """The net has an operation without interval arithmetic here; the message names it."""


RISING_MODULES = (
    *(nn.ReLU, nn.ReLU6, nn.Tanh, nn.Sigmoid, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
    *(nn.Flatten, nn.Identity, nn.Dropout, nn.Dropout2d),
)
"""Modules each of whose outputs rises with each of its inputs, or does not depend on it."""
RISING_FUNCTIONS = {
    *(torch.relu, F.relu, torch.tanh, torch.sigmoid, torch.flatten, torch.mean, torch.squeeze),
    *(F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, torch.cat, operator.add, operator.iadd, torch.add),
    operator.getitem,
}
RISING_METHODS = {
    *("relu", "tanh", "sigmoid", "flatten", "mean", "squeeze", "view", "reshape", "permute", "contiguous", "add"),
    "clone",
}
OF_SHAPE = {"size", "dim"}


class ConfidenceBounds:
    """Bounds of the largest softmax probability over an Linf ball around each image.

    Args:
        net: images (N, 3, H, W) to logits (N, K), in eval mode: convolutions, linear and BatchNorm layers, ReLU, pools,
            sums and concatenations.

    Raises:
        Unbounded: if the net has another operation, or cannot be traced.
    """

    def __init__(self, net: nn.Module) -> None:
        try:
            graph = _Tracer().trace(net)
        except Exception as error:  # a traced net may raise anything
            raise Unbounded(f"the net cannot be traced: {error}") from error
        output = next(node for node in graph.nodes if node.op == "output")
        last = output.args[0]
        self.last: nn.Linear | None = None
        is_layer = isinstance(last, fx.Node) and last.op == "call_module" and len(last.users) == 1
        if is_layer and type(_module(net, last)) is nn.Linear:
            # The differences of two logits are bounded together with the last layer, which is tighter.
            self.last = _module(net, last)  # type: ignore[assignment]
            output.args = (last.args[0],)
            graph.erase_node(last)
        _check(net, graph)
        self.propagation = _Propagation(fx.GraphModule(net, graph))

    @torch.no_grad()
    def __call__(self, images: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        """Return a lower and an upper bound of the largest probability, each float64 (N,).

        They hold for every image within eps of `images` (N, 3, H, W), in [0, 1] pixels, and within [0, 1], in exact
        arithmetic.
        """
        x = images.double()
        result = self.propagation.run(Interval((x - eps).clamp(min=0), (x + eps).clamp(max=1)))
        lows, highs = [], []
        for c in range(len(self.last.weight) if self.last is not None else result.lower.shape[1]):
            low, high = self._above(result, c)  # of z_j - z_c
            lows.append(-high.logsumexp(1))
            highs.append(-low.logsumexp(1))
        return torch.stack(lows).amax(0).exp(), torch.stack(highs).amax(0).exp()

    def _above(self, x: Interval, c: int) -> tuple[Tensor, Tensor]:
        """Return bounds (N, K) of all logits less that of class c."""
        if self.last is None:
            low, high = x.lower - x.upper[:, c : c + 1], x.upper - x.lower[:, c : c + 1]
            low[:, c] = high[:, c] = 0
            return low, high
        weight = self.last.weight.double() - self.last.weight[c].double()
        bias = None if self.last.bias is None else self.last.bias.double() - self.last.bias[c].double()
        middle, radius = x.middle_and_radius
        value, spread = F.linear(middle, weight, bias), F.linear(radius, weight.abs())
        return value - spread, value + spread


def _module(root: nn.Module, node: fx.Node) -> nn.Module:
    return root.get_submodule(str(node.target))


class _Tracer(fx.Tracer):
    """Traces a net down to the layers that have interval arithmetic."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) in (*AFFINE, *RISING_MODULES) or super().is_leaf_module(m, module_qualified_name)


def _check(net: nn.Module, graph: fx.Graph) -> None:
    """Raise Unbounded for the first operation without interval arithmetic."""
    for node in graph.nodes:
        if node.op == "call_module":
            layer = _module(net, node)
            known = type(layer) in (*AFFINE, *RISING_MODULES)
            if isinstance(layer, nn.BatchNorm2d) and (layer.running_mean is None or layer.training):
                known = False
        elif node.op == "call_function":
            known = (node.target in RISING_FUNCTIONS and "alpha" not in node.kwargs) or node.target is getattr
        elif node.op == "call_method":
            known = node.target in RISING_METHODS | OF_SHAPE and "alpha" not in node.kwargs
        else:
            known = node.op in ("placeholder", "output")
        if not known:
            raise Unbounded(f"no interval arithmetic for {node.target}")


class _Propagation(fx.Interpreter):
    """Runs a traced net on intervals."""

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        layer = self.fetch_attr(target)
        if type(layer) in AFFINE:
            middle, radius = args[0].middle_and_radius
            middle, radius = AFFINE[type(layer)](layer, middle, radius)
            return Interval(middle - radius, middle + radius)
        return _both(layer, args, kwargs)

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target is getattr:  # such as x.shape
            return getattr(args[0].lower, *args[1:])
        return _both(target, args, kwargs)

    def call_method(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target in OF_SHAPE:
            return getattr(args[0].lower, target)(*args[1:], **kwargs)
        return _both(lambda x, *others, **options: getattr(x, target)(*others, **options), args, kwargs)


def _both(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Apply a function that rises in every argument to the lower bounds and to the upper bounds."""
    if not any(isinstance(a, Interval) for a in _flat([*args, *kwargs.values()])):
        return function(*args, **kwargs)

    def side(k: int) -> Any:
        return function(*(_pick(a, k) for a in args), **{name: _pick(a, k) for name, a in kwargs.items()})

    return Interval(side(0), side(1))


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple) and not isinstance(value, Interval)


def _flat(values: Any) -> list[Any]:
    return [part for v in values for part in (_flat(v) if _is_list(v) else [v])]


def _pick(value: Any, k: int) -> Any:
    if isinstance(value, Interval):
        return value[k]
    return [_pick(v, k) for v in value] if _is_list(value) else value


def _linear(layer: Any, middle: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    weight = layer.weight.double()
    return F.linear(middle, weight, _double(layer.bias)), F.linear(radius, weight.abs())


def _convolution(layer: Any, middle: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    weight = layer.weight.double()
    run = layer._conv_forward  # knows every padding mode
    return run(middle, weight, _double(layer.bias)), run(radius, weight.abs(), None)


def _batch_norm(layer: Any, middle: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    scale = (layer.running_var.double() + layer.eps).rsqrt()
    if layer.affine:
        scale = scale * layer.weight.double()
    shift = -layer.running_mean.double() * scale + (layer.bias.double() if layer.affine else 0)
    return middle * scale.view(-1, 1, 1) + shift.view(-1, 1, 1), radius * scale.abs().view(-1, 1, 1)


def _normalize(layer: Any, middle: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    return (middle - layer.mean.double()) / layer.std.double(), radius / layer.std.double()


def _double(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.double()


AFFINE: dict[type[nn.Module], Callable[[Any, Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    nn.Linear: _linear,
    nn.Conv2d: _convolution,
    nn.BatchNorm2d: _batch_norm,
    Normalize: _normalize,
}
