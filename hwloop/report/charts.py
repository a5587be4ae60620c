"""Charts that stand alone, as files: bits of ADCs, and designs against each other."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hwloop.files import write_atomically
from hwloop.report.style import BLUE, GREY, INK, ORANGE, drawing, new_figure, quiet

if TYPE_CHECKING:
    from hwloop.adc import LayerNeed

SUFFIXES = (".svg", ".png", ".pdf")


def save_chart(chart: Figure, path: Path) -> None:
    """Write a chart as SVG, PNG or PDF, atomically.

    Raises:
        ValueError: if the name ends in none of these.
        OSError: if it cannot be written.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: a figure is written as one of {', '.join(SUFFIXES)}")
    buffer = io.BytesIO()
    with drawing():
        chart.savefig(buffer, format=path.suffix[1:], facecolor="white", dpi=150)
    write_atomically(path, buffer.getvalue())


def bits_chart(needs: Mapping[str, LayerNeed], chosen: Mapping[str, int] | None) -> Figure:
    """Draw how many bits the bit lines of each layer need, with the formula's bits and the chosen ones."""
    with drawing():
        figure = new_figure(7.0, 0.9 + 0.9 * len(needs))
        grid = figure.subplots(len(needs), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (name, need) in zip(grid, needs.items(), strict=True):
            bits, counts = np.unique(need.exact[need.exact > 0].numpy(), return_counts=True)
            axes.bar(bits, counts, color=GREY, width=0.7)
            axes.axvline(need.formula, color=BLUE)
            axes.annotate("formula", (need.formula, 1), (3, -10), xycoords=("data", "axes fraction"),
                          textcoords="offset points", color=BLUE)  # fmt: skip
            if chosen is not None:
                axes.axvline(chosen[name], color=ORANGE)
                axes.annotate("chosen", (chosen[name], 1), (3, -22), xycoords=("data", "axes fraction"),
                              textcoords="offset points", color=ORANGE)  # fmt: skip
            axes.set_ylabel(name, rotation=0, ha="right", va="center", color=INK)
            axes.yaxis.set_major_locator(MaxNLocator(2, integer=True))
            quiet(axes)
        grid[-1].set_xlabel("bits that lose nothing; height: bit lines")
        grid[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
        return figure
