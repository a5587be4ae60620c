"""The report: one HTML page that needs no other file and no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from device_models.files import write_atomically
from device_models.toml import to_toml
from hwloop.mapping import ConductanceMap
from hwloop.recipe import HardwareConfig
from hwloop.report import arrays, figures, tiles
from hwloop.report.environment import page_environment
from hwloop.report.explorer import share
from hwloop.report.readout import AdcHistogram, VoltageLoss
from hwloop.report.summary import Summary
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
        explorer: figures and cells of tiles; see :func:`hwloop.report.explorer.explore`.
    """

    summary: Summary
    records: Sequence[EpochRecord]
    conductance_map: ConductanceMap
    adc: Mapping[str, AdcHistogram]
    voltage_loss: VoltageLoss
    explorer: Mapping[str, Any]


def write_report(data: ReportData, path: Path) -> None:
    """Write the page, atomically."""
    write_atomically(path, render(data).encode())


def render(data: ReportData) -> str:
    """Return the page as HTML."""
    summary, card = data.summary, data.conductance_map.card
    hardware = HardwareConfig.model_validate(summary.recipe["hardware"])
    drawn = {
        "accuracy": figures.accuracy_figure(summary.accuracy),
        "voltage": figures.voltage_figure(data.voltage_loss, card.read_voltage.value),
        "adc": figures.adc_figure(data.adc),
        "cost": figures.cost_figure(summary.cost),
    }
    if data.records:
        drawn["learning"] = figures.learning_figure(data.records)
    environment = page_environment()
    return environment.get_template("report.html").render(
        s=summary,
        card=card,
        array="×".join(str(lines) for lines in data.conductance_map.array_shape),
        # The figures are made here, from numbers and escaped names; everything else is escaped by the page.
        figures={name: Markup(svg) for name, svg in drawn.items()},  # noqa: S704
        tiles=_pictures(data.conductance_map),
        explorer=data.explorer,
        arrays_of_a_tile=arrays.arrays_of_a_tile(data.conductance_map, hardware),
        wires=arrays.wires(hardware),
        inputs=arrays.inputs(hardware),
        converters=arrays.converters(hardware),
        voltage_loss=data.voltage_loss,
        recipe=to_toml(summary.recipe),
    )


def _pictures(conductance_map: ConductanceMap) -> dict[str, list[tiles.TilePicture]]:
    """Return pictures of tiles of every layer, within the bound of a page."""
    layers, levels = conductance_map.layers, conductance_map.card.levels
    chosen = share({name: layer.tiles for name, layer in layers.items() if layer.tiles}, tiles.SHOWN)
    return {name: tiles.pictures(layers[name], levels, numbers) for name, numbers in chosen.items()}
