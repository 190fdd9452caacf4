"""Detectors that read the last pooled features of any net."""

from aloe_lightning.detectors.features.knn import KNN
from aloe_lightning.detectors.features.mahalanobis_last import MahalanobisLast
from aloe_lightning.detectors.features.react import ReAct
from aloe_lightning.detectors.features.vim import ViM

__all__ = ["KNN", "MahalanobisLast", "ReAct", "ViM"]
