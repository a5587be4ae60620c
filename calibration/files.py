"""Measurement files: CSV with a small header, and HDF5 with units in attributes. See docs/calibration.md."""

from __future__ import annotations

import csv
import io
import re
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from device_models.files import open_regular

from .measurement import KINDS, Array, Measurement, MeasurementError, unit_scale
from .measurement_hdf5 import one_wafer, read_hdf5

MAX_CSV_BYTES = 1 << 30
MAX_LINE = 10_000
MAX_FACTS = 100
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
        return read_hdf5(path)
    raise MeasurementError(f"{path}: measurements are .csv, .h5 or .hdf5 files")


def _read_csv(path: Path) -> Measurement:
    with open_regular(path, MAX_CSV_BYTES) as file, io.TextIOWrapper(file, "utf-8", newline="") as text:
        try:
            return _parse_csv(path, text)
        except UnicodeDecodeError as error:
            raise MeasurementError(f"{path}: not a text file ({error.reason})") from error
        except csv.Error as error:
            raise MeasurementError(f"{path}: not a table ({error})") from error


def _parse_csv(path: Path, text: io.TextIOWrapper) -> Measurement:
    facts: dict[str, str] = {}
    count, line = 0, text.readline(MAX_LINE)
    while line.startswith("#") and count < MAX_FACTS:
        name, _, value = line[1:].partition(":")
        facts[name.strip()] = value.strip()
        count, line = count + 1, text.readline(MAX_LINE)
    if "kind" not in facts:
        raise MeasurementError(f"{path}: no line '# kind: ...' at the top; kinds are {', '.join(KINDS)}")
    if facts["kind"] not in KINDS:
        raise MeasurementError(
            f"{path}: unknown kind {ascii(facts['kind'])[:40]}; known are {', '.join(KINDS)}"
        )
    headings = next(csv.reader([line]), [])
    if not headings:
        raise MeasurementError(f"{path}: no line with the names of the columns")
    columns = _csv_columns(path, facts["kind"], headings, csv.reader(text), count + 2)
    one_wafer(str(path), facts.get("wafer"), facts["kind"], columns)
    return Measurement(facts["kind"], columns, _temperature(path, facts, columns), str(path))


def _csv_columns(
    path: Path, kind: str, headings: Sequence[str], rows: Iterable[Sequence[str]], first_line: int
) -> dict[str, Array]:
    wanted = {**KINDS[kind].columns, **KINDS[kind].optional}
    names, scales = [], []
    for heading in headings:
        match = _HEADING.match(heading)
        if match is None or match["name"] not in wanted:
            known = ", ".join(f"{name} [{unit}]" for name, unit in wanted.items())
            raise MeasurementError(
                f"{path}: column {ascii(heading)[:40]}: a table of kind {kind} has {known}"
            )
        name = match["name"]
        if match["unit"] is None and wanted[name] != "1":
            raise MeasurementError(
                f"{path}: column {name!r} has no unit; write {name} [{wanted[name]}] or with a prefix"
            )
        if name in names:
            raise MeasurementError(f"{path}: column {name!r} is there twice")
        names.append(name)
        scales.append(unit_scale(match["unit"] or "1", wanted[name], f"{path}: column {name!r}"))
    # Eight bytes a value while they come in: lists of numbers would take ten times as much.
    values = array("d")
    for k, row in enumerate(rows):
        if len(row) != len(names):
            raise MeasurementError(
                f"{path}: line {first_line + k}: {len(row)} values, but {len(names)} columns"
            )
        for column, text in enumerate(row):
            try:
                values.append(float(text))
            except ValueError:
                raise MeasurementError(
                    f"{path}: column {names[column]!r}, row {k + 1} is {ascii(text)[:40]}, which is no number"
                ) from None
    table = np.frombuffer(values, dtype=np.float64).reshape(-1, len(names))
    return {name: table[:, k] * scales[k] for k, name in enumerate(names)}


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
