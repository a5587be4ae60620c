"""Two runs on one page: where their recipes differ, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from device_models.files import write_atomically
from hwloop.report import figures
from hwloop.report.environment import page_environment
from hwloop.report.summary import Spread, Summary
from hwloop.report.wording import count, engineering, percent

STATIONS = {
    "dense": "dense",
    "pruned": "pruned",
    "quantized": "quantized",
    "ideal": "ideal arrays",
    "hardware_before": "real arrays",
    "hardware_after": "real arrays, retrained",
}
COSTS = {
    "area_mm2": ("area", "mm²"),
    "power_w": ("power", "W"),
    "energy_per_image_j": ("energy per image", "J"),
    "latency_s": ("time per image", "s"),
}


@dataclass(frozen=True)
class Line:
    """One figure of two runs.

    Attributes:
        name: what it is.
        first, second: as they are shown; empty where a run has no such figure.
        difference: of the second from the first, as it is shown; empty where they are the same.
        better: whether the second is better; None where neither is, or where that has no meaning.
    """

    name: str
    first: str
    second: str
    difference: str = ""
    better: bool | None = None


def write_side_by_side(names: tuple[str, str], summaries: tuple[Summary, Summary], path: Path) -> None:
    """Write the page, atomically.

    Raises:
        OSError: if the folder cannot be written.
    """
    write_atomically(path, render_side_by_side(names, summaries).encode())


def render_side_by_side(names: tuple[str, str], summaries: tuple[Summary, Summary]) -> str:
    """Return the page as HTML.

    Args:
        names: of the two runs, as the page calls them.
        summaries: their figures.
    """
    first, second = summaries
    drawn = figures.accuracies_figure(dict(zip(names, (first.accuracy, second.accuracy), strict=True)))
    return (
        page_environment()
        .get_template("side_by_side.html")
        .render(
            names=names,
            summaries=summaries,
            figure=Markup(drawn),  # noqa: S704  made here, from numbers and escaped names
            recipe=_recipe_lines(first.recipe, second.recipe),
            lines=_lines(first, second),
            layers=_layer_lines(first, second),
        )
    )


def _lines(first: Summary, second: Summary) -> list[Line]:
    """Return what came of two runs."""
    lines = []
    for field, label in STATIONS.items():
        a, b = (_mean(getattr(summary.accuracy, field)) for summary in (first, second))
        points = f"{100 * (b - a):+.2f} points" if a != b else ""
        lines.append(Line(f"accuracy, {label}", percent(a), percent(b), points, _better(b, a)))
    kept, also = first.compression, second.compression
    lines += [
        _count_line("weights kept", kept.weights_kept, also.weights_kept),
        _count_line("tiles", kept.tiles_kept, also.tiles_kept),
        _count_line("arrays", kept.arrays_kept, also.arrays_kept),
    ]
    cost, other = first.cost, second.cost
    lines.append(
        _count_line("ADC conversions per image", cost.conversions_per_image, other.conversions_per_image)
    )
    for field, (label, unit) in COSTS.items():
        a, b = getattr(cost, field), getattr(other, field)
        lines.append(Line(label, _shown(a, unit), _shown(b, unit), _ratio(a, b), _better(a, b)))
    return [*lines, Line("SPICE check", first.spice.status, second.spice.status)]


def _layer_lines(first: Summary, second: Summary) -> list[tuple[str, list[Line]]]:
    """Return for each layer of either run what it takes on the arrays."""
    found = []
    for name in dict.fromkeys([*first.layers, *second.layers]):
        one, other = first.layers.get(name), second.layers.get(name)
        if one is not None and other is not None:
            lines = [
                _count_line("weights", one.weights_kept, other.weights_kept),
                _count_line("tiles", one.tiles_kept, other.tiles_kept),
                _count_line("ADC bits", one.adc_bits, other.adc_bits),
                Line("read error", percent(one.read_error), percent(other.read_error)),
            ]
        else:
            lines = [Line("in the network", "yes" if one else "no", "yes" if other else "no")]
        found.append((name, lines))
    return found


def _mean(value: float | Spread) -> float:
    return value.mean if isinstance(value, Spread) else value


def _shown(value: float, unit: str) -> str:
    return f"{value:.3g} mm²" if unit == "mm²" else engineering(value, unit)


def _count_line(name: str, first: int, second: int) -> Line:
    return Line(name, count(first), count(second), _ratio(first, second), _better(first, second))


def _ratio(first: float, second: float) -> str:
    return f"× {second / first:.3g}" if first and first != second else ""


def _better(larger: float, smaller: float) -> bool | None:
    """Whether one value is above another; None if they are the same."""
    return None if larger == smaller else larger > smaller


def _recipe_lines(first: Mapping[str, Any], second: Mapping[str, Any], prefix: str = "") -> list[Line]:
    """Return the fields in which two recipes differ, by their dotted names."""
    lines = []
    for name in dict.fromkeys([*first, *second]):
        a, b = first.get(name), second.get(name)
        if isinstance(a, dict) or isinstance(b, dict):
            lines += _recipe_lines(a or {}, b or {}, f"{prefix}{name}.")
        elif a != b:
            lines.append(Line(prefix + name, _plain(a), _plain(b)))
    return lines


def _plain(value: Any) -> str:
    return "none" if value is None else str(value)
