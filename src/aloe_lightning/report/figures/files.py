"""Figures as files and as part of a page."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aloe_lightning.storage.files import atomic_write


@dataclass(frozen=True)
class Drawing:
    """A matplotlib figure with a title, a caption and the name of its files."""

    title: str
    caption: str
    name: str
    figure: Any

    def svg(self) -> str:
        """Return the `<svg>` element, the same text for the same figure."""
        import matplotlib as mpl

        stream = io.StringIO()
        with mpl.rc_context({"svg.hashsalt": self.name}):  # names within it are unique on a page
            self.figure.savefig(stream, format="svg", metadata={"Date": None})
        text = stream.getvalue()
        return text[text.index("<svg") :]


def new_figure(width: float, height: float) -> Any:
    """Return an empty matplotlib figure, sizes in inches, that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, folder: Path, name: str) -> list[Path]:
    """Save a matplotlib figure as `.png` and `.pdf`, and return the paths."""
    paths = [folder / f"{name}.{suffix}" for suffix in ("png", "pdf")]
    for path in paths:
        with atomic_write(path) as part:
            figure.savefig(part, dpi=150, metadata={"CreationDate": None} if path.suffix == ".pdf" else None)
    return paths
