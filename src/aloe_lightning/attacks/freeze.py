"""How a net stands while an attack differentiates through it: parameters frozen, BatchNorm in a named mode."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from torch import nn

BatchNormMode = Literal["train", "eval"]


@contextmanager
def frozen_eval(net: nn.Module, batchnorm: BatchNormMode = "eval") -> Iterator[nn.Module]:
    """Freeze a net for an attack and put everything back exactly as it was.

    Inside, no parameter asks for a gradient and every module but BatchNorm is in eval mode. No mode moves the running
    statistics: with `train` a BatchNorm layer normalises by the statistics of the batch and forgets them.

    Args:
        net: the attacked net.
        batchnorm: `eval` normalises by the running statistics, as the deployed net does; `train` by the batch's own.
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
        for norm, tracking in norms:
            norm.track_running_stats = tracking
        for module, training in modules:
            module.training = training
        for parameter, wanted in parameters:
            parameter.requires_grad_(wanted)
