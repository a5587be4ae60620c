"""From measured tables to a device card with uncertainty, and a verdict on every effect in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from device_models.card import DeviceCard
from device_models.effects import ProgrammingError, Variation

from .drift import fit_drift
from .iv import fit_iv
from .kept import load_fits, save_fits
from .measurement import KINDS, Measurement, MeasurementError
from .programming import fit_programming_error, fit_stuck
from .pulses import fit_pulses
from .read_noise import fit_reads
from .result import Fit, figure
from .trains import fit_pulse_train
from .variation import fit_variation, without_devices
from .write_verify import fit_write_verify

TOLERANCE = 0.03
"""How far the coverage of predicted intervals may be from nominal, or three standard errors if more."""

WANTED = {
    "programming_error": "levels: 30 readings or more of formed cells at several targets",
    "stuck": "levels: 30 devices or more, each at three targets",
    "variation": "levels: the same devices written again and again, in five arrays or more",
    "read_noise": "read-noise: traces of 64 evenly spaced readings or more",
    "drift": "retention: 8 devices or more over time, at one temperature",
    "retention": "retention: the same at three temperatures or more",
    "write_verify": "write-verify: pulses and outcome of 30 cells or more",
    "iv": "iv: sweeps of five devices or more",
    "pulse": "pulses: 100 pulses or more each way, with the conductance before and after",
}
"""What to measure for each section of a card."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """What measurements say about a device.

    Attributes:
        card: with everything that was fitted.
        fits: one for each section, in order.
        missing: sections that the data do not identify, and what to measure for them.
    """

    card: DeviceCard
    fits: tuple[Fit, ...]
    missing: dict[str, str]

    @property
    def passed(self) -> bool:
        """Whether every model that could be held against held-out data fits them."""
        return all(verdict(fit) != "does not fit" for fit in self.fits)


def verdict(fit: Fit) -> str:
    """Say whether predicted intervals hold as many held-out readings as they should."""
    if fit.scores is None or len(fit.scores) < 50:
        return "not checked"
    for nominal, observed in fit.coverage().items():
        allowed = max(TOLERANCE, 3 * math.sqrt(nominal * (1 - nominal) / len(fit.scores)))
        if abs(observed - nominal) > allowed:
            return "does not fit"
    return "fits"


def calibrate(
    tables: Sequence[Measurement],
    name: str,
    *,
    base: DeviceCard | None = None,
    read_voltage: float | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> Calibration:
    """Fit everything that the tables tell.

    Where devices were written repeatedly, ``variation`` takes what a device keeps and ``programming_error``
    is fitted to what is left, so that neither spread is counted twice.

    Args:
        tables: any number, of any kinds.
        name: of the card.
        base: card whose sections stay where nothing was measured.
        read_voltage: in volt; the base card's, or 0.2 V by choice, if left out.
        checkpoint: folder in which the fits to each kind of table are kept; a second call with the same
            arguments goes on where the first was cut off, and gives the same card.
        progress: called with the fraction of the readings that were fitted, and a few words.

    Raises:
        MeasurementError: if there are no tables, they are of different temperatures, or a fit fails.
    """
    by_kind = _by_kind(tables)
    fits: list[Fit] = []
    steps: dict[str, Callable[[Measurement], list[Fit | None]]] = {
        "levels": _levels,
        "write-verify": lambda t: [fit_write_verify(t)] if "levels" not in by_kind else [],
        "read-noise": lambda t: [*fit_reads(t)],
        "retention": lambda t: [*fit_drift(t)],
        "iv": lambda t: [fit_iv(t)],
        "pulses": lambda t: [fit_pulses(t)],
        "pulse-train": lambda t: [fit_pulse_train(t)] if "pulses" not in by_kind else [],
    }
    readings, done = sum(len(table) for table in by_kind.values()), 0
    for kind, table in by_kind.items():
        if progress is not None:
            progress(done / readings, f"{kind}, {len(table)} readings")
        kept = None if checkpoint is None else checkpoint / f"{kind}.json"
        if kept is not None and kept.exists():
            fits += load_fits(kept)
        else:
            found = [fit for fit in steps[kind](table) if fit is not None]
            fits += found
            if kept is not None:
                save_fits(kept, found)
        done += len(table)
    card = _card(name, by_kind, fits, base, read_voltage)
    sections = {fit.section for fit in fits} | ({"programming_error"} if "write-verify" in by_kind else set())
    sections |= {"write_verify"} if "levels" in by_kind else set()
    return Calibration(card, tuple(fits), {s: text for s, text in WANTED.items() if s not in sections})


def _levels(table: Measurement) -> list[Fit | None]:
    """Fit levels; where they were read at several times, the first tells of devices and stuck cells."""
    if "elapsed" not in table.columns:
        return _levels_at_once(table)
    times = np.unique(table["elapsed"])
    parts = [table.rows(table["elapsed"] == t) for t in times]
    fits = _levels_at_once(parts[0])
    error = fits[0]
    if error is None:
        return fits
    effects = [error.effect.model_dump(), *(fit_programming_error(p).effect.model_dump() for p in parts[1:])]
    for effect, part, time in zip(effects, parts, times, strict=True):
        effect["elapsed"] = figure(float(time), "s", part.source)
    later = [{name: value for name, value in effect.items() if name != "later"} for effect in effects[1:]]
    merged = ProgrammingError.model_validate({**effects[0], "later": later})
    return [replace(error, effect=merged), *fits[1:]]


def _levels_at_once(table: Measurement) -> list[Fit | None]:
    spread = fit_variation(table)
    if spread is None:
        return [fit_programming_error(table), fit_stuck(table)]
    error = fit_programming_error(without_devices(table))
    data = spread.effect.model_dump()
    data["between_cycles"] |= {"value": 0.0, "standard_error": None}
    note = "variation between cycles is in programming_error, not counted again"
    kept = replace(spread, effect=Variation.model_validate(data), notes=(*spread.notes, note))
    return [error, kept, fit_stuck(table)]


def _by_kind(tables: Sequence[Measurement]) -> dict[str, Measurement]:
    """One table of each kind, in the order of :data:`KINDS`."""
    if not tables:
        raise MeasurementError("no tables to calibrate from")
    warm = [t for t in tables if t.kind != "retention"]
    for table in warm[1:]:
        if abs(table.temperature - warm[0].temperature) > 2:
            raise MeasurementError(
                f"{table.source}: mixed temperatures: {table.temperature:g} K, but {warm[0].source} is at "
                f"{warm[0].temperature:g} K; calibrate one card for each temperature"
            )
    return {k: _joined([t for t in tables if t.kind == k]) for k in KINDS if any(t.kind == k for t in tables)}


def _joined(tables: Sequence[Measurement]) -> Measurement:
    """One table from several of a kind: devices of each file are its own."""
    if len(tables) == 1:
        return tables[0]
    unknown = [t for t in tables if "wafer" not in t.columns]
    if 0 < len(unknown) < len(tables):
        raise MeasurementError(
            f"{unknown[0].source}: no column 'wafer', but other files have it; give it in all or in none"
        )
    shared = set.intersection(*(set(t.columns) for t in tables)) | {"device"}
    columns: dict[str, list[Any]] = {name: [] for name in shared}
    last = 0.0
    for table in tables:
        for name in shared - {"device"}:
            columns[name].append(table[name])
        columns["device"].append(table.device + last)
        last += float(table.device.max()) + 1
    whole = {name: np.concatenate(parts) for name, parts in columns.items()}
    return Measurement(tables[0].kind, whole, tables[0].temperature, ", ".join(t.source for t in tables))


def _card(
    name: str,
    by_kind: dict[str, Measurement],
    fits: Sequence[Fit],
    base: DeviceCard | None,
    read_voltage: float | None,
) -> DeviceCard:
    data: dict[str, Any] = {} if base is None else base.model_dump()
    sources = ", ".join(table.source for table in by_kind.values())
    data |= {
        "format": "hwloop-device-card",
        "version": 2,
        "name": name,
        "title": f"Calibrated from {sources}"[:200],
    }
    first = next(iter(by_kind.values()))
    data["temperature"] = figure(first.temperature, "K", first.source)
    if read_voltage is not None:
        data["read_voltage"] = figure(read_voltage, "V", "as given to calibrate")
    data.setdefault("read_voltage", figure(0.2, "V", "choice: not measured"))
    data.setdefault("read_noise", figure(0.0, "1", "not measured"))
    sections = {fit.section: fit.effect for fit in fits}
    if "programming_error" in sections:
        data.pop("write_verify", None)
    if "write_verify" in sections:
        data.pop("programming_error", None)
    if "drift" in sections:
        data.pop("relaxation", None)
    if "levels" in by_kind or base is None:
        low, high, source = _range(by_kind)
        data["g_max"] = figure(high, "S", source)
        count = max(1, min(int(high / low * (1 + 1e-9)), 15))
        data["level_count"] = figure(count, "1", "choice: equal levels within what was measured, at most 15")
    return DeviceCard.model_validate(data | {s: effect.model_dump() for s, effect in sections.items()})


def _range(by_kind: dict[str, Measurement]) -> tuple[float, float, str]:
    """Lowest and highest conductance (S) that was asked for, or read."""
    for kind, column in (
        ("levels", "target"),
        ("write-verify", "target"),
        ("pulses", "before"),
        ("pulse-train", "conductance"),
        ("retention", "conductance"),
        ("read-noise", "conductance"),
    ):
        if kind in by_kind:
            values = by_kind[kind][column]
            values = values[values > 0]
            if len(values):
                return float(values.min()), float(values.max()), f"{by_kind[kind].source}: largest {column}"
    table = by_kind["iv"]
    nonzero = table["voltage"] != 0
    g = np.abs(table["current"][nonzero] / table["voltage"][nonzero])
    return float(np.median(g)), float(g.max()), f"{table.source}: largest I / V"
