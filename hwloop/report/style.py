"""Figures as SVG that take their colours from the page, so that they read in light and in dark."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# What matplotlib draws with, and the CSS variable of the page that takes its place. The values are
# arbitrary but must differ; they are what remains visible where a page defines no such variable.
INK, MUTED, GRID = "#33373d", "#6b7280", "#d1d5db"
BLUE, ORANGE, TEAL, RED, VIOLET, GREY = "#2a6fdb", "#c2700a", "#0f8f83", "#c43d4b", "#7a52c7", "#8a919c"
SERIES = (BLUE, ORANGE, TEAL, VIOLET, RED, GREY)
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    BLUE: "--blue",
    ORANGE: "--orange",
    TEAL: "--teal",
    RED: "--red",
    VIOLET: "--violet",
    GREY: "--grey",
}

_STYLE: dict[Any, Any] = {
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.facecolor": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "hwloop",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.color": GRID,
    "ytick.labelcolor": MUTED,
}


@contextmanager
def drawing() -> Iterator[None]:
    """Draw in the style of the page."""
    with matplotlib.rc_context(_STYLE):
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, sizes in inches; it belongs to no window and needs no closing."""
    return Figure(figsize=(width, height), layout="constrained")


def to_svg(figure: Figure, name: str, description: str) -> str:
    """Return the figure as an SVG element for a page.

    Args:
        figure: the figure.
        name: prefix of the ids in it, unique on the page.
        description: what a reader who cannot see it is told.
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    for unwanted in (r"<metadata>.*?</metadata>", r"<style.*?</style>", r" font-family: [^;\"]*;"):
        svg = re.sub(unwanted, "", svg, flags=re.DOTALL)
    for reference in ('id="', "url(#", 'href="#'):
        svg = svg.replace(reference, reference + name + "-")
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    # The page scales the figure, up to the size it was drawn at (1 inch is 96 CSS pixels).
    opening, rest = svg.split(">", 1)
    opening = re.sub(r' (width|height|version|xmlns)="[^"]*"', "", opening)
    width = 96 * figure.get_figwidth()
    opening += f' role="img" aria-label="{escape(description)}" style="max-width: {width:.0f}px"'
    return f"{opening}>{rest}"


def quiet(axes: Axes, grid: Literal["x", "y"] | None = "y") -> None:
    """Take away what a reader does not need: ticks, and the grid but along one axis."""
    axes.tick_params(length=0)
    axes.grid(False)
    if grid is not None:
        axes.grid(True, axis=grid)
    axes.set_axisbelow(True)
