"""The subject of an evaluation: a classifier, or a score function, in pixels and in eval mode."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from aloe_lightning.attacks import frozen_eval
from aloe_lightning.errors import UserError
from aloe_lightning.nets import Normalize

Kind = Literal["logits", "score"]


class FunctionNet(nn.Module):
    """A function of images as a module; a module that the function is a method of is registered as its part."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        owner = getattr(function, "__self__", None)
        self.owner = owner if isinstance(owner, nn.Module) else None

    def forward(self, images: Tensor) -> Tensor:
        """Return the value of the function."""
        return self.function(images)


@dataclass(frozen=True)
class Subject:
    """A net that is evaluated.

    Attributes:
        net: images (N, 3, H, W) in [0, 1] to logits (N, K), or to scores (N,).
        kind: `logits` or `score`.
        num_classes: K; None for a score.
        name: class or function that was given.
        normalisation: text that says what happens to the pixels first.
        device: device of the net.
        dtype: floating type of the net's parameters.
    """

    net: nn.Module
    kind: Kind
    num_classes: int | None
    name: str
    normalisation: str
    device: torch.device

    @property
    def description(self) -> str:
        """The output that the net gives, in words."""
        output = f"logits of {self.num_classes} classes" if self.kind == "logits" else "a score of each image"
        return f"{self.name} gives {output}"


def in_pixels(
    net_or_score: Any, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[nn.Module, str, str]:
    """Return the module that takes pixels, the name of what was given, and its normalisation in words.

    Raises:
        UserError: if it cannot be called, or only one of mean and std is given.
    """
    if not callable(net_or_score):
        raise UserError(f"net_or_score is a {type(net_or_score).__name__}: give a torch.nn.Module or a function")
    if (mean is None) != (std is None):
        raise UserError("mean and std belong together: give both or neither")
    is_module = isinstance(net_or_score, nn.Module)
    name = type(net_or_score).__name__ if is_module else getattr(net_or_score, "__name__", type(net_or_score).__name__)
    net = net_or_score if is_module else FunctionNet(net_or_score)
    inner = next((m for m in net.modules() if isinstance(m, Normalize)), None)
    if mean is None or std is None:
        if inner is None:
            return net, name, "none: the net gets pixels in [0, 1]"
        source = next((f" ({m.preprocessing_source})" for m in net.modules() if hasattr(m, "preprocessing_source")), "")
        return net, name, f"inside the net, mean {_numbers(inner.mean)}, std {_numbers(inner.std)}{source}"
    if inner is not None:
        raise UserError(f"{name} normalises inside, by mean {_numbers(inner.mean)}: leave mean and std out")
    if max(mean) > 1 or max(std) > 1:
        raise UserError(
            f"mean and std are of pixels in [0, 1] (got {_numbers(mean)}, {_numbers(std)}): divide them by 255"
        )
    wrapped = nn.Sequential(Normalize(list(mean), list(std)), net)
    wrapped[0].to(_device_of(net))
    return wrapped, name, f"before the net, mean {_numbers(mean)}, std {_numbers(std)}"


def subject_of(
    net_or_score: Any,
    images: Tensor,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    num_classes: int | None,
    title: str | None = None,
) -> Subject:
    """Return the subject; its output for a batch of images (N, 3, H, W) decides whether it gives logits or scores.

    Args:
        net_or_score: what the user gave.
        images: the first images.
        mean: see `in_pixels`.
        std: likewise.
        num_classes: required number of logits, or None.
        title: name for messages and tables; None for the class or function.

    Raises:
        UserError: if the output is neither (N, K) with K >= 2 nor (N,), is not finite, or has no gradient with respect
            to the images.
    """
    net, name, normalisation = in_pixels(net_or_score, mean, std)
    name = title or name
    device = _device_of(net)
    x = images.to(device)
    with frozen_eval(net):
        try:
            output = net(x.requires_grad_(True))
        except UserError:
            raise
        except Exception as error:  # a net may raise anything about images of a size that it was not built for
            size = "x".join(map(str, reversed(x.shape[2:])))
            raise UserError(
                f"{name} fails on a batch of {len(x)} images of {size} pixels: {_first_line(error)}"
            ) from error
        kind = _kind_of(output, len(x), name)
        if not output.requires_grad or torch.autograd.grad(output.sum(), x, allow_unused=True)[0] is None:
            raise UserError(
                f"{name} has no gradient with respect to the images (NumPy, detach() or no_grad() inside?): "
                "an attack needs one"
            )
        if not torch.isfinite(output).all():
            raise UserError(f"{name} gives outputs that are not finite (nan or inf) on the first batch")
        if kind == "logits" and bool((output >= 0).all()) and torch.allclose(output.sum(1), output.new_ones(len(x))):
            raise UserError(
                f"{name} gives probabilities, each row sums to 1: detectors would take the softmax of a softmax; "
                "remove its last softmax, or for msp give a function that returns log(p + 1e-12)"
            )
        if output.dtype in (torch.float16, torch.bfloat16):
            raise UserError(
                f"{name} gives {output.dtype}, whose two to three digits make ties of scores: give net.float(), or a "
                "function that returns float32"
            )
        with torch.no_grad():
            if not torch.allclose(net(x), output, rtol=1e-3, atol=1e-4):
                warnings.warn(f"{name} is random: two passes over the same images differ", stacklevel=3)
            else:
                _require_alone(net, x, output, name)
    classes = output.shape[1] if kind == "logits" else None
    if num_classes is not None and classes not in (None, num_classes):
        raise UserError(f"{name} gives {classes} logits, but num_classes is {num_classes}")
    return Subject(net, kind, classes, name, normalisation, device)


def _require_alone(net: nn.Module, images: Tensor, output: Tensor, name: str) -> None:
    """Raise UserError if the output for an image is another one, or none, when the image is alone in its batch."""
    try:
        alone = net(images[:1])
    except Exception as error:  # a net may raise anything
        raise UserError(
            f"{name} takes {len(images)} images but not one, which may be left for a last batch: {_first_line(error)}"
        ) from error
    if alone.shape != output[:1].shape:
        raise UserError(
            f"{name} gives {tuple(output.shape)} for {len(images)} images and {tuple(alone.shape)} for one: does it "
            "squeeze the batch, too?"
        )
    if not torch.allclose(alone, output[:1], rtol=1e-2, atol=1e-3 * float(output.abs().amax()) + 1e-6):
        raise UserError(
            f"{name} gives another output for an image alone than in a batch: scores must not depend on the other "
            "images (BatchNorm in train mode inside a function, or statistics of the batch)"
        )


def _kind_of(output: Any, count: int, name: str) -> Kind:
    if isinstance(output, Tensor) and output.ndim == 1 and len(output) == count:
        return "score"
    if isinstance(output, Tensor) and output.ndim == 2 and len(output) == count and output.shape[1] > 1:
        return "logits"
    form = f"a tensor {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
    advice = "wrap it in a function that returns one of them, such as lambda x: net(x).logits"
    if isinstance(output, Tensor) and output.ndim == 2 and output.shape[1] == 1:
        advice = "one column may be a score or a logit: if it is a score, higher = more in-distribution, squeeze it"
    raise UserError(
        f"{name} gives {form} for {count} images; it must be logits ({count}, K) with K >= 2, or scores ({count},): "
        + advice
    )


def _device_of(net: nn.Module) -> torch.device:
    for tensor in (*net.parameters(), *net.buffers()):
        return tensor.device
    return torch.device("cpu")


def _numbers(values: Sequence[float] | Tensor) -> str:
    plain = values.flatten().tolist() if isinstance(values, Tensor) else values
    return "(" + ", ".join(f"{value:.4g}" for value in plain) + ")"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
