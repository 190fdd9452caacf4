"""Robust out-of-distribution detection: train, attack, score and tabulate.

The names of `__all__` are imported when they are first used: `import aloe_lightning` does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aloe_lightning.attacks import PGD, frozen_eval, pgd_linf
    from aloe_lightning.data import Batch, RobustOODData
    from aloe_lightning.detectors import MSP, ODIN, Detector, Energy, Mahalanobis, MaxLogit
    from aloe_lightning.errors import UserError
    from aloe_lightning.losses import entropy, uniform_cross_entropy
    from aloe_lightning.metrics import ood_metrics
    from aloe_lightning.nets import Classifier, DenseNet, Normalize, SmallNet
    from aloe_lightning.objectives import ADV, ALOE, AOE, OE, Objective, Optim, Original

__version__ = "0.2.0"

_NAMES = {
    "attacks": ("PGD", "frozen_eval", "pgd_linf"),
    "data": ("Batch", "RobustOODData"),
    "detectors": ("MSP", "ODIN", "Detector", "Energy", "Mahalanobis", "MaxLogit"),
    "errors": ("UserError",),
    "losses": ("entropy", "uniform_cross_entropy"),
    "metrics": ("ood_metrics",),
    "nets": ("Classifier", "DenseNet", "Normalize", "SmallNet"),
    "objectives": ("ADV", "ALOE", "AOE", "OE", "Objective", "Optim", "Original"),
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "ADV",
    "ALOE",
    "AOE",
    "MSP",
    "ODIN",
    "OE",
    "PGD",
    "Batch",
    "Classifier",
    "DenseNet",
    "Detector",
    "Energy",
    "Mahalanobis",
    "MaxLogit",
    "Normalize",
    "Objective",
    "Optim",
    "Original",
    "RobustOODData",
    "SmallNet",
    "UserError",
    "__version__",
    "entropy",
    "frozen_eval",
    "ood_metrics",
    "pgd_linf",
    "uniform_cross_entropy",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
