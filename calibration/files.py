"""Measurement files: CSV with a small header, and HDF5 with units in attributes. See docs/calibration.md."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from device_models.files import replacing

from .measurement import KINDS, Array, Measurement, MeasurementError, unit_scale

FORMAT, VERSION = "hwloop-measurements", 1
MAX_ROWS = 20_000_000
_HEADING = re.compile(r"^\s*(?P<name>[a-z_-]+)\s*(?:\[\s*(?P<unit>[^\]]*?)\s*\])?\s*$")
_TEMPERATURE = re.compile(r"^\s*(?P<value>[-+.\deE]+)\s*(?P<unit>\S+)?\s*$")


def read_measurements(path: str | Path) -> list[Measurement]:
    """Read every table of a ``.csv``, ``.h5`` or ``.hdf5`` file.

    Raises:
        MeasurementError: if the file is none of these, or a table is not what its kind says.
        OSError: if the file cannot be read.
    """
    path = Path(path)
    if path.suffix == ".csv":
        return [_read_csv(path)]
    if path.suffix in (".h5", ".hdf5"):
        return _read_hdf5(path)
    raise MeasurementError(f"{path}: measurements are .csv, .h5 or .hdf5 files")


def _read_csv(path: Path) -> Measurement:
    with path.open(newline="", encoding="utf-8") as file:
        try:
            lines = file.readlines()
        except UnicodeDecodeError as error:
            raise MeasurementError(f"{path}: not a text file ({error.reason})") from error
    facts, first = {}, 0
    while first < len(lines) and lines[first].startswith("#"):
        name, _, value = lines[first][1:].partition(":")
        facts[name.strip()] = value.strip()
        first += 1
    if "kind" not in facts:
        raise MeasurementError(f"{path}: no line '# kind: ...' at the top; kinds are {', '.join(KINDS)}")
    if facts["kind"] not in KINDS:
        raise MeasurementError(f"{path}: unknown kind {facts['kind']!r}; known are {', '.join(KINDS)}")
    if first == len(lines):
        raise MeasurementError(f"{path}: no line with the names of the columns")
    rows = list(csv.reader(lines[first:]))
    columns = _csv_columns(path, facts["kind"], rows[0], rows[1:], first + 2)
    _one_wafer(str(path), facts.get("wafer"), facts["kind"], columns)
    return Measurement(facts["kind"], columns, _temperature(path, facts, columns), str(path))


def _csv_columns(
    path: Path, kind: str, headings: Sequence[str], rows: Sequence[Sequence[str]], first_line: int
) -> dict[str, Array]:
    wanted = {**KINDS[kind].columns, **KINDS[kind].optional}
    names, scales = [], []
    for heading in headings:
        match = _HEADING.match(heading)
        if match is None or match["name"] not in wanted:
            known = ", ".join(f"{name} [{unit}]" for name, unit in wanted.items())
            raise MeasurementError(f"{path}: column {heading!r}: a table of kind {kind} has {known}")
        name = match["name"]
        if match["unit"] is None and wanted[name] != "1":
            raise MeasurementError(
                f"{path}: column {name!r} has no unit; write {name} [{wanted[name]}] or with a prefix"
            )
        if name in names:
            raise MeasurementError(f"{path}: column {name!r} is there twice")
        names.append(name)
        scales.append(unit_scale(match["unit"] or "1", wanted[name], f"{path}: column {name!r}"))
    values: Array = np.empty((len(rows), len(names)))
    for k, row in enumerate(rows):
        if len(row) != len(names):
            raise MeasurementError(
                f"{path}: line {first_line + k}: {len(row)} values, but {len(names)} columns"
            )
        for column, text in enumerate(row):
            try:
                values[k, column] = float(text)
            except ValueError:
                raise MeasurementError(
                    f"{path}: column {names[column]!r}, row {k + 1} is {text!r}, which is no number"
                ) from None
    return {name: values[:, k] * scales[k] for k, name in enumerate(names)}


def _one_wafer(where: str, value: object, kind: str, columns: dict[str, Array]) -> None:
    """Add the column ``wafer`` of a table that says once which wafer all of it is from."""
    if value is None or "wafer" not in KINDS[kind].optional:
        return
    if "wafer" in columns:
        raise MeasurementError(f"{where}: wafer is there as a column and for the whole table; keep one")
    try:
        number = float(str(value))
    except ValueError:
        raise MeasurementError(f"{where}: wafer is {value!r}; give its number") from None
    columns["wafer"] = np.full(len(next(iter(columns.values()), ())), number)


def _temperature(path: Path, facts: dict[str, str], columns: dict[str, Array]) -> float:
    if "temperature" in columns and "temperature" not in facts:
        return float(columns["temperature"].min()) if columns["temperature"].size else 298.0
    match = _TEMPERATURE.match(facts.get("temperature", ""))
    if match is None or match["unit"] != "K":
        raise MeasurementError(
            f"{path}: no line '# temperature: 298 K' at the top (in kelvin, with the unit)"
        )
    try:
        return float(match["value"])
    except ValueError:
        raise MeasurementError(f"{path}: temperature is {match['value']!r}, which is no number") from None


def _read_hdf5(path: Path) -> list[Measurement]:
    try:
        file = h5py.File(path)
    except OSError as error:
        if path.exists():
            raise MeasurementError(f"{path}: not an HDF5 file ({error})") from error
        raise FileNotFoundError(2, "no such file", str(path)) from error
    with file:
        if file.attrs.get("format") != FORMAT or file.attrs.get("version") != VERSION:
            raise MeasurementError(
                f"{path}: the root has no attributes format = {FORMAT!r}, version = {VERSION}"
            )
        tables = [
            _read_group(path, name, group) for name, group in file.items() if isinstance(group, h5py.Group)
        ]
    if not tables:
        raise MeasurementError(f"{path}: holds no group, and so no table")
    return tables


def _read_group(path: Path, name: str, group: h5py.Group) -> Measurement:
    where = f"{path}:{name}"
    kind = group.attrs.get("kind")
    if kind not in KINDS:
        raise MeasurementError(f"{where}: attribute kind is {kind!r}; known are {', '.join(KINDS)}")
    wanted = {**KINDS[kind].columns, **KINDS[kind].optional}
    columns: dict[str, Array] = {}
    for column, data in group.items():
        place = f"{where}: column {column!r}"
        if column not in wanted:
            raise MeasurementError(f"{place}: a table of kind {kind} has {', '.join(wanted)}")
        if not isinstance(data, h5py.Dataset) or data.ndim != 1 or data.dtype.kind not in "iuf":
            raise MeasurementError(f"{place}: must be a list of numbers")
        if data.size > MAX_ROWS:
            raise MeasurementError(f"{place}: {data.size} rows are more than {MAX_ROWS}")
        unit = data.attrs.get("unit", "1" if wanted[column] == "1" else None)
        if unit is None:
            raise MeasurementError(f"{place}: has no attribute unit; give it, such as {wanted[column]!r}")
        columns[column] = data[()].astype(np.float64) * unit_scale(str(unit), wanted[column], place)
    _one_wafer(where, group.attrs.get("wafer"), kind, columns)
    temperature = group.attrs.get("temperature_kelvin")
    if temperature is None and "temperature" in columns and columns["temperature"].size:
        temperature = columns["temperature"].min()
    if temperature is None:
        raise MeasurementError(f"{where}: has no attribute temperature_kelvin")
    return Measurement(kind, columns, float(temperature), where)


def write_measurements(path: str | Path, tables: dict[str, Measurement]) -> None:
    """Write tables to an HDF5 file in SI units, atomically; one group for each, by its name."""
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
        for name, table in tables.items():
            group = file.create_group(name)
            group.attrs["kind"], group.attrs["temperature_kelvin"] = table.kind, table.temperature
            units = {**KINDS[table.kind].columns, **KINDS[table.kind].optional}
            for column, values in table.columns.items():
                group.create_dataset(column, data=values).attrs["unit"] = units[column]
