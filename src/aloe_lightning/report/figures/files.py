"""Figures as files, and as part of a page in its light or dark colours."""

import io
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from aloe_lightning.report.figures.styles import DARK_COLOURS
from aloe_lightning.storage.files import atomic_write

ON_A_PHONE = 5.4
"""Width, in inches, of a figure with text of 10 points that fits a screen of 420 pixels and is read there."""
LEAST_TEXT, PREFERRED_TEXT = 10, 15
"""Size of the smallest text of a figure on a page, in pixels: on a narrow screen, and where there is room."""


@dataclass(frozen=True)
class Drawing:
    """A matplotlib figure with a title, a caption and the name of its files."""

    title: str
    caption: str
    name: str
    figure: Any

    def svg(self) -> str:
        """Return the `<svg>` element, the same text for the same figure.

        It is never so narrow that its smallest text has less than `LEAST_TEXT` pixels: see `scrolling`. It has no
        background. Text and axes, which are black in the figure, have the colour of the page's text; a colour
        of `DARK_COLOURS` is a variable of CSS, so that the page can replace it in dark mode.
        """
        import matplotlib as mpl

        _lay_out(self.figure)
        stream = io.StringIO()
        with mpl.rc_context({"svg.hashsalt": self.name}):  # names within it are unique on a page
            self.figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
        text = stream.getvalue()
        text = text[text.index("<svg") :].replace("#000000", "currentColor")
        for colour in DARK_COLOURS:
            text = text.replace(colour, f"var({css_variable(colour)}, {colour})")
        # Inches of 72 points, in pixels for each pixel of the smallest text.
        unit = self.figure.get_figwidth() * 72 / smallest_text(self.figure)
        style = f"width: {PREFERRED_TEXT * unit:.0f}px; min-width: {LEAST_TEXT * unit:.0f}px"
        label = escape(self.title, quote=True)
        return text.replace("<svg ", f'<svg role="img" aria-label="{label}" style="{style}" fill="currentColor" ', 1)

    def scrolling(self) -> str:
        """Return the `<svg>` element in a box of the page's width, in which it scrolls where it is wider."""
        label = escape(self.title, quote=True)
        return f'<div class="scrolling" role="region" tabindex="0" aria-label="{label}">{self.svg()}</div>'


def smallest_text(figure: Any) -> float:
    """Return the size of the smallest text of a matplotlib figure, in points."""
    from matplotlib.text import Text

    return float(min(t.get_fontsize() for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()))


def css_variable(colour: str) -> str:
    """Return the variable of a page's style that holds a colour of `DARK_COLOURS`."""
    return f"--figure-{colour.removeprefix('#')}"


def dark_mode_css() -> str:
    """Return the rule that gives the figures their colours in dark mode."""
    values = " ".join(f"{css_variable(light)}: {dark};" for light, dark in DARK_COLOURS.items())
    return f"@media (prefers-color-scheme: dark) {{ :root {{ {values} }} }}\n"


def new_figure(width: float, height: float) -> Any:
    """Return an empty matplotlib figure, sizes in inches, that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Any, folder: Path, name: str) -> list[Path]:
    """Save a matplotlib figure as `.png` and `.pdf`, and return the paths."""
    _lay_out(figure)
    paths = [folder / f"{name}.{suffix}" for suffix in ("png", "pdf")]
    for path in paths:
        with atomic_write(path) as part:
            figure.savefig(part, dpi=150, metadata={"CreationDate": None} if path.suffix == ".pdf" else None)
    return paths


def _lay_out(figure: Any) -> None:
    """Place the parts of a figure once for all its files: the search takes as long as drawing."""
    from matplotlib.layout_engine import PlaceHolderLayoutEngine

    if not isinstance(figure.get_layout_engine(), PlaceHolderLayoutEngine | None):
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
