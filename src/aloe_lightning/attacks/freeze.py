"""The context in which attacks differentiate through a net: parameters frozen, BatchNorm in a named mode."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from torch import nn

BatchNormMode = Literal["train", "eval"]


@contextmanager
def frozen_eval(net: nn.Module, batchnorm: BatchNormMode = "eval") -> Iterator[nn.Module]:
    """Freeze a net, and restore it exactly at the end.

    Inside, no parameter requires a gradient and every module but BatchNorm is in eval mode. Neither mode updates the
    running statistics: with `train` a BatchNorm layer normalises by the statistics of the batch and forgets them.

    Args:
        net: the net to freeze.
        batchnorm: `eval` normalises by the running statistics, as in deployment; `train` by those of the batch.
    """
    modules = [(m, m.training) for m in net.modules()]
    parameters = [(p, p.requires_grad) for p in net.parameters()]
    norms = [(m, m.track_running_stats) for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    try:
        net.eval()
        for parameter, _ in parameters:
            parameter.requires_grad_(False)
        if batchnorm == "train":
            for norm, _ in norms:
                norm.training, norm.track_running_stats = True, False
        yield net
    finally:
        for norm, tracked in norms:
            norm.track_running_stats = tracked
        for module, training in modules:
            module.training = training
        for parameter, required_grad in parameters:
            parameter.requires_grad_(required_grad)
