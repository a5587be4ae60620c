"""Charts that stand alone, as files: bits of ADCs, and pruning methods against each other."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from device_models.files import write_atomically
from hwloop.report.front import unbeaten
from hwloop.report.style import BLUE, GREY, INK, ORANGE, SERIES, drawing, new_figure, quiet

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


def accuracy_chart(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw accuracy against ADC bits: one line for each network on ideal and on real arrays.

    Args:
        rows: each with ``network``, ``arrays`` (``ideal`` or ``real``), ``bits`` (None = lossless) and
            ``accuracy``, one for each device instance; bars show the smallest and the largest.
    """
    with drawing():
        figure = new_figure(7.0, 4.0)
        axes = figure.subplots()
        networks = list(dict.fromkeys(row["network"] for row in rows))
        most = max(row["bits"] for row in rows if row["bits"] is not None)
        for network, arrays in dict.fromkeys((row["network"], row["arrays"]) for row in rows):
            found = [row for row in rows if (row["network"], row["arrays"]) == (network, arrays)]
            x = [most + 1 if row["bits"] is None else row["bits"] for row in found]
            values = [100 * np.array(row["accuracy"]) for row in found]
            mean = np.array([v.mean() for v in values])
            spread = [mean - [v.min() for v in values], [v.max() for v in values] - mean]
            axes.errorbar(
                x, mean, spread, label=f"{network}, {arrays} arrays", capsize=2, markersize=4, marker="o",
                color=SERIES[networks.index(network) % len(SERIES)],
                linestyle="--" if arrays == "ideal" else "-",
            )  # fmt: skip
        ticks = sorted({row["bits"] for row in rows if row["bits"] is not None})
        axes.set_xticks([*ticks, most + 1], [*map(str, ticks), "lossless"])
        axes.set_xlabel("ADC bits")
        axes.set_ylabel("accuracy on test images, %")
        axes.legend(loc="lower right")
        quiet(axes)
        return figure


def methods_chart(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw pruning methods: accuracy against tiles and ADC energy, and accuracy on arrays against tiles.

    Args:
        rows: as :func:`hwloop.compare.summarize` gives them; bars are standard deviations.
    """
    panels = (
        ("mapped_tiles", 1.0, "arrays' tiles, quantized", "quantized"),
        ("adc_energy_j", 1e9, "ADC energy per image, nJ", "quantized"),
        ("mapped_tiles", 1.0, "arrays' tiles, on real arrays", "hardware"),
    )
    with drawing():
        figure = new_figure(11.0, 4.4 + 0.17 * -(-len(rows) // 3))
        for axes, (name, factor, label, which) in zip(figure.subplots(1, 3), panels, strict=True):
            x = np.array([factor * row[name] for row in rows])
            mean = np.array([100 * row[which]["mean"] for row in rows])
            best = unbeaten(list(zip(mean, -x, strict=True)))
            for number, row in enumerate(rows):
                colour = BLUE if best[number] else GREY
                axes.errorbar(x[number], mean[number], 100 * row[which]["std"], fmt="o", color=colour,
                              markersize=4, capsize=2)  # fmt: skip
                axes.annotate(str(number + 1), (x[number], mean[number]), (4, 4),
                              textcoords="offset points", fontsize=8)  # fmt: skip
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xlabel(label)
            axes.set_ylabel("accuracy, %")
            quiet(axes)
        told = [f"{number}: {row['label']}" for number, row in enumerate(rows, 1)]
        lines = ["    ".join(told[start : start + 3]) for start in range(0, len(told), 3)]
        figure.supxlabel("\n".join(lines), fontsize=8, ha="left", x=0.06)
        return figure
