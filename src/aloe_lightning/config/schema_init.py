"""What a config may say: every key, its type and its range. Imports no torch, so that a typo is answered at once.

`tests/test_config.py` holds the nodes with a `_target_` equal to the signatures of what they build.
"""

from aloe_lightning.config.schema import (
    NETS,
    OBJECTIVES,
    TARGETS,
    BatchNode,
    Config,
    EvaluationNode,
    TrainerNode,
    WandbNode,
)
from aloe_lightning.config.schema_data import DATA, OOD, OUTLIERS

__all__ = [
    "DATA",
    "NETS",
    "OBJECTIVES",
    "OOD",
    "OUTLIERS",
    "TARGETS",
    "BatchNode",
    "Config",
    "EvaluationNode",
    "TrainerNode",
    "WandbNode",
]
