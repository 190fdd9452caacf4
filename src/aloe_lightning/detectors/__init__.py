"""Detectors: settings with a `fit(net)` that returns images -> scores, higher = more in-distribution."""

from aloe_lightning.detectors.cache import CachedDetector, read_fitted, write_fitted
from aloe_lightning.detectors.detector import CacheableDetector, Detector, FitData, Fitted, ScoreFn
from aloe_lightning.detectors.features.knn import KNN
from aloe_lightning.detectors.features.mahalanobis_last import MahalanobisLast
from aloe_lightning.detectors.features.react import ReAct
from aloe_lightning.detectors.features.vim import ViM
from aloe_lightning.detectors.forward_pass import ForwardPass
from aloe_lightning.detectors.logits import MSP, Energy, MaxLogit, max_softmax
from aloe_lightning.detectors.mahalanobis import Mahalanobis
from aloe_lightning.detectors.odin import ODIN
from aloe_lightning.detectors.pytorch_ood import PytorchOOD
from aloe_lightning.detectors.rejection import Rejection

__all__ = [
    "KNN",
    "MSP",
    "ODIN",
    "CacheableDetector",
    "CachedDetector",
    "Detector",
    "Energy",
    "FitData",
    "Fitted",
    "ForwardPass",
    "Mahalanobis",
    "MahalanobisLast",
    "MaxLogit",
    "PytorchOOD",
    "ReAct",
    "Rejection",
    "ScoreFn",
    "ViM",
    "max_softmax",
    "read_fitted",
    "write_fitted",
]
