"""The paper's Figure 2: how an attack moves the scores of in-distribution and OOD images."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aloe_lightning.atomic import replacing

Panels = Mapping[str, Mapping[str, NDArray[np.float64]]]
"""`detector/set/state` -> scores, for each method's title."""

ID_COLOUR, OOD_COLOUR = "#1f6fb4", "#d1495b"


def score_figure(methods: Panels, epsilon: float, detector: str = "msp") -> object:
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
            axis.set_title(
                f"{title}, {state}" + (f" (ε = {epsilon:g}/255)" if state == "attacked" else ""), fontsize=11
            )
            axis.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel("share of images")
    for axis in axes[-1]:
        axis.set_xlabel("score: maximum softmax probability")
    axes[0][0].legend(frameon=False, loc="upper center")
    return figure


def write_figure(folder: Path, methods: Panels, epsilon: float, formats: Sequence[str] = ("png", "pdf")) -> list[Path]:
    """Draw and save as `scores.png` and `scores.pdf`; returns the paths."""
    figure = score_figure(methods, epsilon)
    paths = [folder / f"scores.{suffix}" for suffix in formats]
    for path in paths:
        metadata = {"CreationDate": None} if path.suffix == ".pdf" else None
        with replacing(path) as part:
            figure.savefig(part, dpi=150, metadata=metadata)  # type: ignore[attr-defined]
    return paths
