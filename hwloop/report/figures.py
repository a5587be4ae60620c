"""The figures of a report, each one function from data to SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from hwloop.cost import ADCS
from hwloop.report.readout import AdcHistogram, VoltageLoss
from hwloop.report.style import (
    BLUE,
    GREY,
    GRID,
    INK,
    MUTED,
    ORANGE,
    RED,
    SERIES,
    TEAL,
    drawing,
    new_figure,
    quiet,
    to_svg,
)
from hwloop.report.summary import Accuracy, Cost, Spread
from hwloop.training import EpochRecord

WIDTH = 10.75  # inches; the width of the page's text


def accuracy_figure(accuracy: Accuracy) -> str:
    """Accuracy at each station, with every device instance where there are several."""
    stations = _stations(accuracy)
    with drawing():
        figure = new_figure(WIDTH, 3.6)
        axes = figure.subplots()
        means = [_mean(value) for value in stations.values()]
        axes.plot(means, color=GRID, linewidth=1.2, zorder=1)
        colours = [BLUE] * 4 + [ORANGE, TEAL]
        for x, (value, mean, colour) in enumerate(zip(stations.values(), means, colours, strict=True)):
            _points(axes, x, value, colour)
            top = 100 * value.max if isinstance(value, Spread) else mean
            axes.annotate(
                f"{mean:.2f} %", (x, top), (0, 9), textcoords="offset points", ha="center", weight="bold"
            )
        _accuracy_axes(axes, list(stations))
        axes.margins(y=0.22)
        return to_svg(figure, "accuracy", f"Accuracy on the test images along the line: {_told(stations)}.")


def accuracies_figure(accuracies: Mapping[str, Accuracy]) -> str:
    """Accuracy of several runs at each station, side by side, with every device instance."""
    with drawing():
        figure = new_figure(WIDTH, 3.8)
        axes = figure.subplots()
        told = []
        for number, (name, accuracy) in enumerate(accuracies.items()):
            stations = _stations(accuracy)
            x = np.arange(len(stations)) + 0.36 * (number - (len(accuracies) - 1) / 2)
            axes.plot(x, [_mean(value) for value in stations.values()], color=GRID, linewidth=1.2, zorder=1)
            for place, value in zip(x, stations.values(), strict=True):
                _points(axes, place, value, SERIES[number % len(SERIES)])
            axes.plot([], [], "o", color=SERIES[number % len(SERIES)], label=name)
            told.append(f"{name}: {_told(stations)}")
        _accuracy_axes(axes, list(stations))
        figure.legend(loc="outside upper center", ncols=len(accuracies))
        return to_svg(figure, "accuracies", f"Accuracy on the test images along the line. {'. '.join(told)}.")


def _stations(accuracy: Accuracy) -> dict[str, float | Spread]:
    return {
        "dense": accuracy.dense,
        "pruned": accuracy.pruned,
        "quantized": accuracy.quantized,
        "ideal arrays": accuracy.ideal,
        "real arrays": accuracy.hardware_before,
        "real arrays,\nretrained": accuracy.hardware_after,
    }


def _mean(value: float | Spread) -> float:
    """Accuracy in percent."""
    return 100 * (value.mean if isinstance(value, Spread) else value)


def _told(stations: Mapping[str, float | Spread]) -> str:
    return ", ".join(f"{name.replace(chr(10), ' ')} {_mean(v):.2f} %" for name, v in stations.items())


def _points(axes: Axes, x: float, value: float | Spread, colour: str) -> None:
    """Draw one accuracy: a dot, or a bar at the mean and a small dot for each device instance."""
    if isinstance(value, Spread):
        points = 100 * np.array(value.instances)
        offsets = np.linspace(-0.12, 0.12, len(points)) if len(points) > 1 else np.zeros(1)
        axes.scatter(x + offsets, points, s=18, color=colour, alpha=0.55, linewidths=0, zorder=2)
        axes.hlines(_mean(value), x - 0.17, x + 0.17, color=colour, linewidth=2.5, zorder=3)
    else:
        axes.scatter([x], [_mean(value)], s=64, color=colour, zorder=3)


def _accuracy_axes(axes: Axes, stations: Sequence[str]) -> None:
    axes.set_xticks(range(len(stations)), stations)
    axes.tick_params(axis="x", labelcolor=INK)
    axes.set_xlim(-0.5, len(stations) - 0.5)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g} %"))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    quiet(axes)


def learning_figure(records: Sequence[EpochRecord]) -> str:
    """Loss and validation accuracy, epoch by epoch, over all trainings of the run."""
    stations = list(dict.fromkeys(_training(record) for record in records))
    colours = dict(zip(stations, SERIES, strict=False))
    with drawing():
        figure = new_figure(WIDTH, 3.4)
        loss, accuracy = figure.subplots(1, 2)
        for station in stations:
            chosen = [(x, r) for x, r in enumerate(records, 1) if _training(r) == station]
            epochs = [x for x, _ in chosen]
            colour = colours.get(station, GREY)
            loss.plot(epochs, [r.loss for _, r in chosen], "o-", color=colour, markersize=4, label=station)
            known = [(x, r.validation_accuracy) for x, r in chosen if r.validation_accuracy is not None]
            if known:
                accuracy.plot(
                    [x for x, _ in known], [100 * y for _, y in known], "o-", color=colour, markersize=4
                )
        loss.set_yscale("log")
        loss.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        loss.yaxis.set_minor_formatter(NullFormatter())
        loss.set_title("Training loss")
        accuracy.set_title("Accuracy on held-back training images")
        accuracy.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g} %"))
        for axes in (loss, accuracy):
            axes.set_xlabel("epoch, counted over the whole line")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            quiet(axes)
        figure.legend(loc="outside upper center", ncols=max(len(stations), 1), labelcolor=INK)
        return to_svg(figure, "learning", f"Learning curves of {', '.join(stations)}.")


def voltage_figure(loss: VoltageLoss, read_voltage: float) -> str:
    """How much of the read voltage each cell of one tile does not see."""
    percent = 100 * loss.loss / read_voltage
    with drawing():
        figure = new_figure(WIDTH, 4.7)
        arrays = ("positive array", "negative array") if len(percent) == 2 else ("array",)
        panels = figure.subplots(1, len(arrays), sharey=True, squeeze=False)[0]
        top = float(np.nanmax(percent)) if np.isfinite(percent).any() else 1.0
        scale = ScalarMappable(Normalize(0, top), "viridis")
        for axes, values, array in zip(panels, percent, arrays, strict=True):
            axes.imshow(values, cmap=scale.cmap, norm=scale.norm, interpolation="nearest", aspect="equal")
            axes.set_title(array)
            axes.set_xlabel("bit line (sensed at the bottom)")
            _frame(axes)
        panels[0].set_ylabel("word line (driven from the left)")
        bar = figure.colorbar(scale, ax=panels, fraction=0.03, pad=0.02)
        bar.set_label("cell voltage lost, % of read voltage")
        bar.outline.set_visible(False)
        bar.ax.tick_params(length=0)
        return to_svg(
            figure,
            "voltage",
            f"Loss of cell voltage over tile {loss.tile} of layer {loss.layer}, growing with the distance "
            f"from drivers on the left and senses at the bottom up to {top:.2f} % of the read voltage.",
        )


def adc_figure(histograms: Mapping[str, AdcHistogram]) -> str:
    """How often each ADC code occurs, layer by layer, against the range of the converter."""
    with drawing():
        columns = min(len(histograms), 2)
        rows = -(-len(histograms) // columns)
        figure = new_figure(WIDTH, 0.6 + 1.75 * rows)
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(histograms) :]:
            axes.set_visible(False)
        for axes, (layer, histogram) in zip(grid.flat, histograms.items(), strict=False):
            _adc_panel(axes, layer, histogram)
        figure.supylabel("share of all conversions", fontsize=10, color=MUTED)
        told = "; ".join(
            f"{layer}: largest code {histogram.largest} of {histogram.full_scale}"
            for layer, histogram in histograms.items()
        )
        return to_svg(figure, "adc", f"Histograms of ADC codes on a logarithmic scale. {told}.")


def cost_figure(cost: Cost) -> str:
    """Area, power and energy of one image, by part."""
    sections = (
        ("area", "mm²", cost.area_mm2_by_part, 1.0),
        ("power, all arrays busy", "mW", cost.power_w_by_part, 1e3),
        ("energy per image", "nJ", cost.energy_per_image_j_by_part, 1e9),
    )
    with drawing():
        parts = list(cost.area_mm2_by_part)
        figure = new_figure(WIDTH, 1.2 + 0.26 * len(parts))
        panels = figure.subplots(1, 3, sharey=True)
        for axes, (title, unit, by_part, factor) in zip(panels, sections, strict=True):
            values = [factor * by_part[part] for part in parts]
            axes.barh(parts, values, color=[ORANGE if part == ADCS else BLUE for part in parts], height=0.62)
            largest = max(values)
            for y, value in enumerate(values):
                share = value / sum(values) if sum(values) else 0.0
                axes.annotate(
                    f"{100 * share:.0f} %" if share >= 0.005 else "< 1 %",
                    (value, y), (4, 0), textcoords="offset points", va="center", color=MUTED, fontsize=9,
                )  # fmt: skip
            axes.set_xlim(0, 1.22 * largest or 1.0)
            axes.xaxis.set_major_locator(MaxNLocator(3))
            axes.set_title(f"{title}\n{sum(values):.4g} {unit}")
            axes.set_xlabel(unit)
            axes.tick_params(axis="y", labelcolor=INK)
            quiet(axes, "x")
            axes.spines["left"].set_visible(False)
        panels[0].invert_yaxis()
        return to_svg(
            figure,
            "cost",
            f"Cost by part: {cost.area_mm2:.4g} mm², {1e3 * cost.power_w:.4g} mW, "
            f"{1e9 * cost.energy_per_image_j:.4g} nJ per image; the ADCs take "
            f"{100 * cost.area_mm2_by_part[ADCS] / cost.area_mm2:.0f} % of the area and "
            f"{100 * cost.power_w_by_part[ADCS] / cost.power_w:.0f} % of the power.",
        )


def _training(record: EpochRecord) -> str:
    """Name of a training as the curves show it; all rounds of ADMM are one."""
    return "ADMM" if record.station.startswith("admm round") else record.station


def _adc_panel(axes: Axes, layer: str, histogram: AdcHistogram) -> None:
    counts = np.asarray(histogram.counts, dtype=float)
    share = counts / max(1, counts.sum())  # a layer without arrays has none
    width = max(1, len(share) // 128)
    padded = np.pad(share, (0, -len(share) % width)).reshape(-1, width).sum(axis=1)
    left = np.arange(len(padded)) * width
    axes.bar(left, padded, width=width, align="edge", color=BLUE, linewidth=0)
    axes.set_yscale("log")
    axes.set_xlim(0, histogram.full_scale + 1)
    axes.axvline(histogram.largest + 0.5, color=RED, linewidth=1.2)
    near_end = histogram.largest > 0.7 * histogram.full_scale
    axes.annotate(
        f"largest code {histogram.largest}",
        (histogram.largest, 1), (-5 if near_end else 5, -3), xycoords=("data", "axes fraction"),
        textcoords="offset points", va="top", ha="right" if near_end else "left", color=RED, fontsize=9,
    )  # fmt: skip
    axes.set_title(f"{layer} · {histogram.bits} bits, codes 0 to {histogram.full_scale}")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:g} %"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    quiet(axes)


def _frame(axes: Axes) -> None:
    """Draw the outline of an array, and nothing inside it."""
    quiet(axes, None)
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(GRID)
