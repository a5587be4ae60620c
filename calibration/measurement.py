"""Measured tables: what kinds there are, which columns in which units, and the checks that all pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]

PREFIXES = {"": 1.0, "k": 1e3, "m": 1e-3, "u": 1e-6, "µ": 1e-6, "n": 1e-9, "p": 1e-12, "f": 1e-15}
UNITS = {"S": "S", "V": "V", "A": "A", "s": "s", "ohm": "ohm"}


class MeasurementError(ValueError):
    """A measurement that cannot be used; the message names file, column and row, and what would do."""


@dataclass(frozen=True)
class Kind:
    """A kind of measurement: its columns and their SI units.

    Attributes:
        columns: those that must be there.
        optional: those that may be there. Rows of one ``device`` are in the order they were taken.
    """

    columns: Mapping[str, str]
    optional: Mapping[str, str] = field(default_factory=dict)


_NAMES = {"device": "1", "array": "1"}
KINDS: Mapping[str, Kind] = {
    "levels": Kind({"target": "S", "conductance": "S"}, _NAMES | {"wafer": "1", "elapsed": "s"}),
    "write-verify": Kind({"target": "S", "conductance": "S", "pulses": "1", "passed": "1"}, _NAMES),
    "read-noise": Kind({"time": "s", "conductance": "S"}, _NAMES),
    "retention": Kind({"device": "1", "time": "s", "temperature": "K", "conductance": "S"}, {"array": "1"}),
    "iv": Kind({"voltage": "V", "current": "A"}, _NAMES),
    "pulses": Kind({"up": "1", "before": "S", "after": "S"}, _NAMES),
    "pulse-train": Kind({"up": "1", "conductance": "S"}, _NAMES),
}
"""Kinds of tables. ``up`` is 1 for a potentiating pulse and 0 for a depressing one; a pulse train is the
state after each pulse, in order; ``passed`` is 1 where the verify passed."""


@dataclass(frozen=True, eq=False)
class Measurement:
    """One table, in SI units.

    Attributes:
        kind: one of :data:`KINDS`.
        columns: one array for each column, all of one length.
        temperature: in kelvin.
        source: file (and group or table) that it comes from.
    """

    kind: str
    columns: Mapping[str, Array]
    temperature: float
    source: str

    def __post_init__(self) -> None:
        check(self)

    def __getitem__(self, column: str) -> Array:
        return self.columns[column]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @property
    def device(self) -> NDArray[Any]:
        """Number of the device of every row; 0 where the table has no such column."""
        given = self.columns.get("device")
        if given is None:
            return np.zeros(len(self), dtype=np.int64)
        return np.unique(given, return_inverse=True)[1]

    def rows(self, chosen: NDArray[np.bool_]) -> Measurement:
        """Return the table with the chosen rows alone."""
        columns = {name: column[chosen] for name, column in self.columns.items()}
        return Measurement(self.kind, columns, self.temperature, self.source)

    def by_device(self) -> Iterator[NDArray[Any]]:
        """Yield the rows of each device, in order."""
        device = self.device
        for k in range(int(device.max(initial=0)) + 1):
            yield np.flatnonzero(device == k)


def check(table: Measurement) -> None:
    """Raise MeasurementError, naming file, column and row, unless the table holds what its kind says."""
    where = table.source
    if table.kind not in KINDS:
        raise MeasurementError(f"{where}: unknown kind {table.kind!r}; known are {', '.join(KINDS)}")
    kind = KINDS[table.kind]
    for name in kind.columns:
        if name not in table.columns:
            raise MeasurementError(f"{where}: a table of kind {table.kind} needs a column {name!r}")
    lengths = {name: len(column) for name, column in table.columns.items()}
    if len(set(lengths.values())) > 1:
        raise MeasurementError(f"{where}: columns differ in length: {lengths}")
    for name, column in table.columns.items():
        if name not in kind.columns and name not in kind.optional:
            known = ", ".join((*kind.columns, *kind.optional))
            raise MeasurementError(f"{where}: column {name!r}: a table of kind {table.kind} has {known}")
        if column.size == 0:
            raise MeasurementError(f"{where}: column {name!r} is empty; give at least one row")
        _every(where, name, np.isfinite(column), column, "must be a finite number; leave such rows out")
        if name in ("up", "passed"):
            _every(where, name, (column == 0) | (column == 1), column, "must be 0 or 1")
        if name in ("target", "elapsed", "time"):
            _every(where, name, column >= 0, column, "must not be negative")
        if name == "temperature":
            _every(where, name, column > 0, column, "must be in kelvin, above 0")
    if not 0 < table.temperature < 2000:
        raise MeasurementError(f"{where}: temperature is {table.temperature:g} K; give it in kelvin")
    if table.kind == "iv":
        _sweeps(table)
    if table.kind == "read-noise":
        _rising_time(table)
    if "wafer" in table.columns:
        _one_place(table)
    _plausible(table)


def _every(where: str, name: str, good: NDArray[np.bool_], column: Array, rule: str) -> None:
    if not good.all():
        row = int(np.argmin(good))
        raise MeasurementError(f"{where}: column {name!r}, row {row + 1} is {column[row]:g}: it {rule}")


def _sweeps(table: Measurement) -> None:
    """A sweep rises or falls; it may turn round once."""
    for rows in table.by_device():
        direction = np.sign(np.diff(table["voltage"][rows]))
        if (direction == 0).any():
            row = int(rows[int(np.argmax(direction == 0)) + 1])
            raise MeasurementError(f"{table.source}: column 'voltage', row {row + 1} repeats the one before")
        turns = np.flatnonzero(np.diff(direction))
        if len(turns) > 2:
            row = int(rows[turns[2] + 1])
            raise MeasurementError(
                f"{table.source}: column 'voltage', row {row + 1}: the sweep is not monotone (it turns round "
                f"{len(turns)} times); sort the points, or give each sweep a device of its own"
            )


def _rising_time(table: Measurement) -> None:
    for rows in table.by_device():
        steps = np.diff(table["time"][rows])
        if (steps <= 0).any():
            row = int(rows[int(np.argmax(steps <= 0)) + 1])
            raise MeasurementError(
                f"{table.source}: column 'time', row {row + 1} is not later than the one before"
            )


def _one_place(table: Measurement) -> None:
    """A device lies in one array of one wafer."""
    if "device" not in table.columns:
        return
    for name in ("wafer", "array"):
        if name not in table.columns:
            continue
        _, first, owner = np.unique(table["device"], return_index=True, return_inverse=True)
        same = table[name] == table[name][first][owner]
        if not same.all():
            row = int(np.argmin(same))
            raise MeasurementError(
                f"{table.source}: column {name!r}, row {row + 1}: device {table['device'][row]:g} was in "
                f"another {name} before; give every device a number of its own, across arrays and wafers"
            )


def _plausible(table: Measurement) -> None:
    """Conductances of memristors lie below 10 mS: anything above is a unit that was left out."""
    for name in ("target", "conductance", "before", "after"):
        column = table.columns.get(name)
        if column is not None and np.median(np.abs(column)) > 1e-2:
            raise MeasurementError(
                f"{table.source}: column {name!r}: half of the conductances are above 10 mS "
                f"(median {np.median(np.abs(column)):g} S); is the unit right?"
            )


def unit_scale(unit: str, wanted: str, where: str) -> float:
    """Return the factor from a unit such as ``uS`` to the SI unit ``wanted``.

    Raises:
        MeasurementError: if it is none of that quantity.
    """
    if wanted in ("1", "K"):
        if unit == wanted:
            return 1.0
    elif unit.endswith(wanted) and unit[: len(unit) - len(wanted)] in PREFIXES:
        return PREFIXES[unit[: len(unit) - len(wanted)]]
    example = "m" + wanted if wanted not in ("1", "K") else wanted
    raise MeasurementError(f"{where}: unit {unit!r} is not one of {wanted} (such as {wanted} or {example})")
