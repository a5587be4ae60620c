"""The report: one HTML page that needs no other file and no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from device_models.files import write_atomically
from device_models.toml import to_toml
from hwloop.mapping import ConductanceMap
from hwloop.report import figures, tiles
from hwloop.report.readout import AdcHistogram, VoltageLoss
from hwloop.report.style import page_environment
from hwloop.report.summary import Spread, Summary
from hwloop.training import EpochRecord


@dataclass(frozen=True)
class ReportData:
    """Everything that the page shows.

    Attributes:
        summary: the figures.
        records: every epoch of every training, in order.
        conductance_map: the programmed map.
        adc: codes of the ADCs, by layer.
        voltage_loss: voltage lost over the tile that conducts most.
    """

    summary: Summary
    records: Sequence[EpochRecord]
    conductance_map: ConductanceMap
    adc: Mapping[str, AdcHistogram]
    voltage_loss: VoltageLoss


def write_report(data: ReportData, path: Path) -> None:
    """Write the page, atomically."""
    write_atomically(path, render(data).encode())


def render(data: ReportData) -> str:
    """Return the page as HTML."""
    summary, card = data.summary, data.conductance_map.card
    drawn = {
        "accuracy": figures.accuracy_figure(summary.accuracy),
        "voltage": figures.voltage_figure(data.voltage_loss, card.read_voltage.value),
        "adc": figures.adc_figure(data.adc),
        "cost": figures.cost_figure(summary.cost),
    }
    if data.records:
        drawn["learning"] = figures.learning_figure(data.records)
    environment = page_environment()
    environment.filters.update(
        percent=percent, spread=spread, count=count, engineering=engineering, power_of_ten=power_of_ten,
        duration=duration,
    )  # fmt: skip
    return environment.get_template("report.html").render(
        s=summary,
        card=card,
        array="×".join(str(lines) for lines in data.conductance_map.array_shape),
        # The figures are made here, from numbers and escaped names; everything else is escaped by the page.
        figures={name: Markup(svg) for name, svg in drawn.items()},  # noqa: S704
        tiles={n: tiles.pictures(layer, card.levels) for n, layer in data.conductance_map.layers.items()},
        arrays_of_a_tile=tiles.arrays_of_a_tile(data.conductance_map),
        voltage_loss=data.voltage_loss,
        recipe=to_toml(summary.recipe),
    )


def percent(fraction: float) -> str:
    """Return ``0.9912`` as ``99.12 %``."""
    return f"{100 * fraction:.2f} %"


def spread(value: Spread) -> str:
    """Return mean and standard deviation, in percent."""
    if value.std is None:
        return percent(value.mean)
    return f"{100 * value.mean:.2f} ± {100 * value.std:.2f} %"


def count(number: int) -> str:
    """Return a whole number with its thousands apart."""
    return f"{number:,}".replace(",", "\u202f")


def engineering(value: float, unit: str) -> str:
    """Return a figure with the prefix that keeps its number between 1 and 1000, such as ``1.24 mW``."""
    prefixes = {0: "", -3: "m", -6: "µ", -9: "n", -12: "p", -15: "f"}
    for exponent, prefix in prefixes.items():
        if abs(value) >= 10.0**exponent or exponent == -15:
            return f"{value / 10.0**exponent:.3g}\u202f{prefix}{unit}"
    raise AssertionError


def power_of_ten(value: float | None) -> str:
    """Return ``3.1e-12`` as ``3.1·10⁻¹²``; None is what could not be solved."""
    if value is None:
        return "not solved"
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}·10{str(int(exponent)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def duration(seconds: float) -> str:
    """Return a time as people say it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"
