"""The paper's Figure 2: how an attack moves the scores of in-distribution and OOD images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aloe_lightning.paper.methods import budget
from aloe_lightning.storage.files import atomic_write

Panels = Mapping[str, Mapping[str, NDArray[np.float64]]]
"""`detector/set/state` -> scores, for each method's title."""

ID_COLOUR, OOD_COLOUR = "#1f6fb4", "#d1495b"


def score_figure(methods: Panels, epsilon: float, detector: str = "msp") -> Any:
    """One row a method, clean scores left and attacked scores right; ID against all OOD sets pooled.

    Args:
        methods: title -> score arrays of a run's `scores.npz`.
        epsilon: budget of the attack in 1/255 steps, for the titles.
        detector: whose scores are drawn.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 0.9 + 2.3 * len(methods)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(methods), 2, squeeze=False, sharex=True)
    for row, (title, scores) in zip(axes, methods.items(), strict=True):
        for axis, state in zip(row, ("clean", "attacked"), strict=True):
            known = scores[f"{detector}/id/{state}"]
            sets = [v for k, v in scores.items() if k.startswith(f"{detector}/") and k.endswith(f"/{state}")]
            novel = np.concatenate([v for v in sets if v is not known])
            for values, colour, name in ((known, ID_COLOUR, "in-distribution"), (novel, OOD_COLOUR, "OOD")):
                weights = np.full(len(values), 1 / len(values))
                axis.hist(values, bins=40, range=(0, 1), weights=weights, color=colour, alpha=0.6, label=name)
            axis.set_title(f"{title}, {state}" + (f" ({budget(epsilon)})" if state == "attacked" else ""), fontsize=11)
            axis.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel("share of images")
    for axis in axes[-1]:
        axis.set_xlabel("score: maximum softmax probability")
    axes[0][0].legend(frameon=False, loc="upper center")
    return figure


def save_figure(figure: Any, folder: Path, name: str) -> list[Path]:
    """Save a matplotlib figure as `.png` and `.pdf`; returns the paths."""
    paths = [folder / f"{name}.{suffix}" for suffix in ("png", "pdf")]
    for path in paths:
        with atomic_write(path) as part:
            figure.savefig(part, dpi=150, metadata={"CreationDate": None} if path.suffix == ".pdf" else None)
    return paths
